"""Tiny pipelines, built once per test run."""

from pathlib import Path

import pytest
from tiny_models import save_tiny_pipeline


@pytest.fixture(scope="session")
def sd1_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise prediction, AutoencoderKL."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("sd1") / "tiny-sd1", "epsilon")


@pytest.fixture(scope="session")
def sd2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Velocity prediction, AutoencoderKL."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("sd2") / "tiny-sd2", "v_prediction")


@pytest.fixture(scope="session")
def tiny_vae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise prediction, AutoencoderTiny."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("taesd") / "tiny-ae", "epsilon", "tiny")
