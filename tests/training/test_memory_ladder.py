"""Out of memory in the middle of a run: one rung down, and the run ends as if nothing had been."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import save_tiny_pipeline
from toy_run import toy_stage, toy_train

from dreamlab.core.errors import MemoryExhaustedError
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.systems.stage import Stage, StepResult
from dreamlab.training.memory import is_out_of_memory

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("Failed to allocate 4294967296 bytes on device 'cuda:0'"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_lack_of_memory_is_known_whoever_reports_it(error: BaseException):
    """Warp's kernels allocate beside torch, and CUDA's libraries beside both."""
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("ladder") / "sd")


def load(folder: Path) -> DiffusionPrior:
    prior = load_prior(PriorConfig(model=str(folder)), "cpu")
    assert isinstance(prior, DiffusionPrior)
    return prior


def failing(times: int, at: int) -> Callable[[Stage, int], StepResult]:
    """A step that does its work, leaves gradients and state behind, and then runs out of memory."""
    step, left = Stage.step, [times]

    def fail(stage: Stage, number: int) -> StepResult:
        result = step(stage, number)
        if number == at and left[0]:
            left[0] -= 1
            raise FULL
        return result

    return fail


def test_a_run_goes_on_with_a_rung_less_and_tells_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    prior = load(folder)
    monkeypatch.setattr(Stage, "step", failing(times=2, at=3))
    trained = toy_train(tmp_path, {"nerf": toy_stage(steps=6)}, prior=prior)
    assert trained.is_finished and trained.step == 6
    assert prior.rungs == ["vae_slicing", "single_rows"]
    assert "ran out of memory; the model goes on with vae_slicing" in caplog.text
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    told = [event for line in lines if (event := json.loads(line))["kind"] == "memory"]
    assert [event["rung"] for event in told] == prior.rungs


@pytest.mark.slow
def test_what_the_broken_step_did_is_undone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Single rows and slices of pictures change rounding alone, so the ends nearly agree."""

    def end(name: str) -> dict[str, torch.Tensor]:
        trained = toy_train(tmp_path / name, {"nerf": toy_stage(steps=6)}, prior=load(folder))
        return trained.stage.state()

    whole = end("whole")
    monkeypatch.setattr(Stage, "step", failing(times=1, at=3))
    broken = end("broken")
    for name, tensor in whole.items():
        torch.testing.assert_close(broken[name], tensor, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_at_the_end_of_the_ladder_there_is_advice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prior = load(folder)
    monkeypatch.setattr(Stage, "step", failing(times=100, at=0))
    with pytest.raises(MemoryExhaustedError) as caught:
        toy_train(tmp_path, {"nerf": toy_stage(steps=2)}, prior=prior)
    assert prior.rungs[-1] == "half_precision"
    assert "image_size" in caught.value.fix
