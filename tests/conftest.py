"""Settings that every test shares."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """What is loaded by now stays, so garbage need not be looked for among it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def compiled_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels compiled for NVIDIA GPUs are kept as long as the tests run."""
    return tmp_path_factory.mktemp("ptx")


@pytest.fixture(autouse=True)
def _as_on_a_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let tests marked `ptx` launch as on a GPU: its code, with threads side by side."""
    if request.node.get_closest_marker("ptx") is None:
        yield
        return
    import ptx

    from dreamlab.ops import warp_setup
    from dreamlab.ops.hashgrid import warp as hashgrid
    from dreamlab.ops.splat import warp as splat

    for module in (warp_setup, hashgrid, splat):
        monkeypatch.setattr(module, "runs_in_turn", lambda device: False)
    with ptx.emulated(request.getfixturevalue("compiled_kernels")) as launches:
        yield
    assert launches, "no kernel was launched, so nothing was checked"


@pytest.fixture(params=["cpu", "pretended card"])
def any_device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The CPU, then a card that is none, on which tensors may not meet those of the CPU."""
    if request.param == "cpu":
        yield torch.device("cpu")
        return
    from pretend_cuda import CARD, pretended_card

    with pretended_card():
        yield CARD
