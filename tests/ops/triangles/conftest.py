"""What the tests of triangles share."""

import pytest

from dreamlab.ops import warp_setup


@pytest.fixture
def small_work_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two threads share every launch, however little there is to do."""
    cut = warp_setup.split_ranges
    monkeypatch.setattr(warp_setup, "split_ranges", lambda count, parts, _: cut(count, parts, 1))
