"""Claims about the measurement of the API under load."""

import pytest

from dreamlab.web.load import measure


@pytest.mark.slow
def test_everybody_who_polls_is_answered(tmp_path):
    load = measure(tmp_path, clients=10, runs=5, seconds=5.0)
    assert load.failures == 0 and load.rate > 5
    assert 0 < load.summary()["record_median"] <= load.summary()["record_p95"]
    assert load.cpu_seconds > 0
