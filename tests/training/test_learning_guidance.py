"""Guidance that learns, in training: its LoRA and moments are part of the run's state."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny_pipeline
from toy_run import Losses, stop_after, toy_stage, toy_train

from dreamlab.core.run_folder import RunFolder
from dreamlab.guidance.vsd import VSD
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.systems.settings import StageConfig
from dreamlab.training import loop
from dreamlab.training.loop import load_trained
from dreamlab.training.stop import StopFlag

CPU = torch.device("cpu")
LEARNING = {"name": "vsd", "learning_rate": 1e-2, "lora": {"rank": 2}}
STAGES = {
    "coarse": toy_stage(steps=3, guidance=LEARNING),
    "fine": toy_stage(steps=3, guidance=LEARNING, start_from="previous"),
}


@pytest.fixture(autouse=True)
def capture_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CAPTURE_EVERY", 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("learning") / "tiny")


def run(root: Path, model: Path, stages: dict[str, StageConfig], **options: Any) -> loop.Trained:
    prior = load_prior(PriorConfig(model=str(model)), CPU)  # a new process has a bare U-Net
    return toy_train(root, stages, prior=prior, **options)


def test_a_run_that_was_stopped_twice_has_the_same_result_bit_for_bit(
    tmp_path: Path, model: Path
) -> None:
    whole = Losses()
    uninterrupted = run(tmp_path / "whole", model, STAGES, on_event=whole)
    pieces: dict[tuple[str, int], float] = {}
    for stop_at in (("coarse", 2), ("fine", 1), None):
        stop, losses = StopFlag(), Losses()
        if stop_at is not None:
            losses.act = stop_after(stop, stop_at)
        resumed = run(
            tmp_path / "part", model, STAGES, on_event=losses, stop=stop, resume=bool(pieces)
        )
        assert resumed.is_finished == (stop_at is None)
        pieces |= losses.of
    assert pieces == whole.of
    state = uninterrupted.stage.state()
    learned = {name for name in state if name.startswith("guidance.")}
    assert {"guidance.score.camera.2.weight", "guidance.optimizer.0.exp_avg"} <= learned
    assert state.keys() == resumed.stage.state().keys()
    for name, tensor in resumed.stage.state().items():
        assert torch.equal(tensor, state[name]), name
    assert all(bool(state[name].any()) for name in learned if "exp_avg" in name)


def test_particles_share_what_is_learned_and_resume_with_it_exactly(
    tmp_path: Path, model: Path
) -> None:
    stages = {"only": toy_stage(steps=4, particles=2, guidance=LEARNING)}
    whole = run(tmp_path / "whole", model, stages).stage
    stop = StopFlag()
    run(tmp_path / "part", model, stages, stop=stop, on_event=stop_after(stop, ("only", 2)))
    resumed = run(tmp_path / "part", model, stages, resume=True).stage
    assert {whole.particle_at(step) for step in range(4)} == {0, 1}
    state = whole.state()
    assert sum(name.endswith("camera.2.weight") for name in state) == 1
    assert state["guidance.optimizer.0.step"] == 4, "every step is one of the shared score"
    for name, tensor in resumed.state().items():
        assert torch.equal(tensor, state[name]), name


def test_what_was_trained_can_be_loaded_without_the_model(tmp_path: Path, model: Path) -> None:
    stages = {"only": STAGES["coarse"]}
    trained = run(tmp_path, model, stages)
    plan: dict[str, Any] = {"prompt": "a ball", "negative_prompt": "", "seed": 0}
    again = load_trained(stages, **plan, folder=RunFolder(tmp_path), device=CPU)
    cameras = trained.stage.view_around(2)
    assert torch.equal(
        trained.stage.render(cameras, 8, 8).rgb, again.stage.render(cameras, 8, 8).rgb
    )


def test_stages_without_learning_guidance_have_no_part_of_it(tmp_path: Path, model: Path) -> None:
    stages = {"first": STAGES["coarse"], "last": toy_stage(steps=2)}
    after_learning = run(tmp_path / "a", model, stages).stage
    assert after_learning.learned_parameters() == []
    assert not any(name.startswith("guidance") for name in after_learning.state())
    alone = run(tmp_path / "b", model, {"last": toy_stage(steps=2)}).stage
    for name, tensor in alone.state().items():
        assert torch.equal(tensor, after_learning.state()[name]), "the U-Net is the bare one again"


@pytest.mark.slow
def test_a_step_gone_bad_takes_back_what_was_learned_too(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = VSD.__call__, []

    def fails_once(self, *arguments: Any) -> Any:
        output = honest(self, *arguments)
        calls.append(output)
        if len(calls) == 4:  # the score breaks while it learns, and the next judgement shows it
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.fill_(torch.nan)
        return output

    monkeypatch.setattr(VSD, "__call__", fails_once)
    stages = {"only": toy_stage(steps=6, guidance=LEARNING)}
    trained = run(tmp_path, model, stages)
    assert trained.is_finished and len(calls) > 6
    assert [e["kind"] for e in RunFolder(tmp_path).read_events()].count("restored") == 1
    assert all(parameter.isfinite().all() for parameter in trained.stage.learned_parameters())
