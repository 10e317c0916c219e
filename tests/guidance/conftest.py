"""A tiny real pipeline, and helpers to make renders and views."""

from pathlib import Path

import pytest
from tiny_models import save_tiny_pipeline


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("guidance") / "tiny-sd", "v_prediction")
