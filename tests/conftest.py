"""Settings that every test shares."""

import gc
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """What is loaded by now stays, so garbage need not be looked for among it."""
    gc.collect()
    gc.freeze()
