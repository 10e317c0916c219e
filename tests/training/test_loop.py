import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_run import BLUE, RED, BallPrior, Losses, silhouette, stop_after, toy_stage, toy_train

from dreamlab.core.errors import DivergedError, InputError, MemoryExhaustedError
from dreamlab.core.run_folder import RunFolder
from dreamlab.priors.base import Prediction
from dreamlab.systems.stage import Stage
from dreamlab.training import loop, previews, watch
from dreamlab.training.loop import Trained, load_trained
from dreamlab.training.stop import StopFlag
from dreamlab.training.watch import MAX_RESTORES

PLAN: dict[str, Any] = {"prompt": "a ball", "negative_prompt": "", "seed": 0}


@pytest.fixture(autouse=True)
def capture_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capture good states every 4 steps and write checkpoints at every step."""
    monkeypatch.setattr(loop, "CAPTURE_EVERY", 4)
    monkeypatch.setattr(loop, "SECONDS_PER_CHECKPOINT", 0.0)


def parameters(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.stage.state()


def assert_same_result(a: Trained, b: Trained) -> None:
    assert parameters(a).keys() == parameters(b).keys()
    for name, tensor in parameters(a).items():
        assert torch.equal(tensor, parameters(b)[name]), name


def kinds(root: Path) -> list[str]:
    return [event["kind"] for event in RunFolder(root).read_events()]


def color_inside(trained: Trained, azimuth: float) -> torch.Tensor:
    cameras = trained.stage.view_around(1, turned=azimuth)
    rgb = trained.stage.render(cameras, 16, 16).rgb[0]
    axis = torch.arange(16) - 7.5
    return rgb[(axis[:, None] ** 2 + axis[None, :] ** 2) < 9].mean(0)


def red_and_blue_ball(root: Path, steps: int) -> Trained:
    stage = toy_stage(
        steps=steps,
        milestones=[{"until": 0.3, "size": 8}, {"until": 1.0, "size": 16}],
        views=4,
        prompts={"front_angle": 90.0, "back_angle": 90.0},
        optimizer={"lr": {"table": 0.03, "mlp": 0.01}},
    )
    return toy_train(root, {"nerf": stage})


def overlap_with_ball(trained: Trained) -> float:
    """Smallest intersection over union of a silhouette with the ball's, over 8 views."""
    filled = trained.stage.render(trained.stage.view_around(8), 32, 32).alpha[..., 0] > 0.5
    truth = silhouette(32) > 0
    return float(((filled & truth).sum((1, 2)) / (filled | truth).sum((1, 2))).min())


def test_a_ball_that_is_red_in_front_and_blue_behind_emerges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_PER_CHECKPOINT", 30.0)
    monkeypatch.setattr(previews, "STEPS_PER_PREVIEW", 50)
    trained = red_and_blue_ball(tmp_path, steps=80)
    assert trained.is_finished and trained.step == 80
    assert overlap_with_ball(trained) > 0.8
    front, back = color_inside(trained, 0.0), color_inside(trained, 180.0)
    assert front[0] - front[2] > 0.15 and back[2] - back[0] > 0.15, (front, back)
    assert sorted(path.name for path in (tmp_path / "previews").iterdir()) == [
        "000050.webp",
        "000080.webp",
    ]


@pytest.mark.slow
def test_a_ball_gets_the_colors_of_the_prior(tmp_path: Path) -> None:
    trained = red_and_blue_ball(tmp_path, steps=200)
    assert overlap_with_ball(trained) > 0.7
    front, back = color_inside(trained, 0.0), color_inside(trained, 180.0)
    assert (front - torch.tensor(RED)).abs().max() < 0.1, front
    assert (back - torch.tensor(BLUE)).abs().max() < 0.1, back


def test_a_repeated_run_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    assert_same_result(toy_train(tmp_path / "a"), toy_train(tmp_path / "b"))


def test_another_seed_makes_another_object(tmp_path: Path) -> None:
    one, other = toy_train(tmp_path / "a", seed=1), toy_train(tmp_path / "b", seed=2)
    assert not torch.equal(
        parameters(one)["representation.features.table"],
        parameters(other)["representation.features.table"],
    )


STAGES = {"coarse": toy_stage(steps=6), "fine": toy_stage(steps=6, start_from="previous")}


@pytest.mark.parametrize("stop_at", [("coarse", 3), ("coarse", 6), ("fine", 2), ("fine", 6)])
def test_a_stopped_run_goes_on_to_the_same_result_bit_for_bit(
    tmp_path: Path, stop_at: tuple[str, int]
) -> None:
    whole = Losses()
    uninterrupted = toy_train(tmp_path / "whole", STAGES, on_event=whole)

    stop = StopFlag()
    first, second = Losses(stop_after(stop, stop_at)), Losses()
    part = toy_train(tmp_path / "part", STAGES, on_event=first, stop=stop)
    assert part.is_finished == (stop_at == ("fine", 6))
    resumed = toy_train(tmp_path / "part", STAGES, on_event=second, resume=True)

    assert resumed.is_finished
    assert first.of | second.of == whole.of
    assert not first.of.keys() & second.of.keys(), "no step was taken twice"
    assert_same_result(resumed, uninterrupted)


def test_a_stop_before_the_first_step_keeps_a_state_that_can_be_rendered(tmp_path: Path) -> None:
    stop = StopFlag()
    stop.set()
    trained = toy_train(tmp_path, stop=stop)
    assert not trained.is_finished and trained.step == 0
    assert kinds(tmp_path)[-1] == "stopped"
    again = load_trained({"nerf": toy_stage()}, **PLAN, folder=RunFolder(tmp_path), device=CPU)
    assert_same_result(again, trained)


CPU = torch.device("cpu")


def test_what_was_trained_can_be_loaded_without_a_prior(tmp_path: Path) -> None:
    trained = toy_train(tmp_path)
    again = load_trained({"nerf": toy_stage()}, **PLAN, folder=RunFolder(tmp_path), device=CPU)
    assert again.is_finished and again.step == trained.step
    cameras = trained.stage.view_around(3)
    assert torch.equal(
        trained.stage.render(cameras, 12, 12).rgb, again.stage.render(cameras, 12, 12).rgb
    )


def test_a_folder_without_checkpoint_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        load_trained({"nerf": toy_stage()}, **PLAN, folder=RunFolder(tmp_path), device=CPU)


def test_resuming_without_a_checkpoint_starts_from_the_beginning(tmp_path: Path) -> None:
    assert_same_result(toy_train(tmp_path / "a", resume=True), toy_train(tmp_path / "b"))


def test_resuming_with_settings_that_matter_is_refused(tmp_path: Path) -> None:
    toy_train(tmp_path)
    with pytest.raises(InputError, match=r"stages\.nerf\.views: 2 -> 3"):
        toy_train(tmp_path, {"nerf": toy_stage(views=3)}, resume=True)
    with pytest.raises(InputError, match="seed: 0 -> 5"):
        toy_train(tmp_path, seed=5, resume=True)
    other = BallPrior()
    other.name = "sd15"
    with pytest.raises(InputError, match=r"prior\.model: 'ball' -> 'sd15'"):
        toy_train(tmp_path, prior=other, resume=True)


def test_a_complete_run_goes_on_when_its_stage_gets_more_steps(tmp_path: Path) -> None:
    toy_train(tmp_path)
    more = Losses()
    longer = toy_train(tmp_path, {"nerf": toy_stage(steps=15)}, on_event=more, resume=True)
    assert longer.is_finished and longer.steps == {"nerf": 15}
    assert list(more.of) == [("nerf", 13), ("nerf", 14), ("nerf", 15)]


@pytest.mark.parametrize(("start_from", "object_steps"), [("previous", 6), (None, 0)])
def test_a_stage_that_has_not_begun_holds_the_object_that_it_started_from(
    tmp_path: Path, start_from: str | None, object_steps: int
) -> None:
    stages = {"coarse": toy_stage(steps=6), "fine": toy_stage(steps=6, start_from=start_from)}
    stop = StopFlag()
    trained = toy_train(tmp_path, stages, on_event=stop_after(stop, ("coarse", 6)), stop=stop)
    loaded = load_trained(stages, **PLAN, folder=RunFolder(tmp_path), device=CPU)
    for found in (trained, loaded):
        assert (found.stage.name, found.step, found.is_finished) == ("fine", 0, False)
        assert found.steps == {"coarse": 6, "fine": 0}
        assert found.object_steps == object_steps


def test_loading_a_run_leaves_the_half_written_file_of_its_trainer_alone(tmp_path: Path) -> None:
    toy_train(tmp_path)
    half = tmp_path / "checkpoints" / ".last.safetensors.1.part.safetensors"
    half.write_bytes(b"half")
    load_trained({"nerf": toy_stage()}, **PLAN, folder=RunFolder(tmp_path), device=CPU)
    assert half.exists()


def test_a_damaged_checkpoint_costs_the_steps_since_the_previous_one_only(tmp_path: Path) -> None:
    stop = StopFlag()
    toy_train(tmp_path / "a", on_event=stop_after(stop, ("nerf", 10)), stop=stop)
    last = tmp_path / "a" / "checkpoints" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:1000])
    again = Losses()
    resumed = toy_train(tmp_path / "a", on_event=again, resume=True)
    # The last checkpoint was written by the stop, the one before at the step before.
    assert min(step for _, step in again.of) == 10
    assert_same_result(resumed, toy_train(tmp_path / "b"))
    assert "damaged" in (tmp_path / "a" / "log.txt").read_text()


CHILD = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from toy_run import toy_train
from dreamlab.training import checkpoint, loop

loop.CAPTURE_EVERY, loop.SECONDS_PER_CHECKPOINT = 4, 0.0
root, moment = Path(sys.argv[1]), sys.argv[2]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def on_event(event):
    if moment == "in training" and event.kind == "step" and event.values["step"] == 10:
        die()

whole_write, saves = checkpoint.save_file, []

def half_write(tensors, path, metadata):
    saves.append(path)
    whole_write(tensors, path, metadata)
    if moment == "in a write" and len(saves) == 3:
        os.truncate(path, os.path.getsize(path) // 2)
        die()

checkpoint.save_file = half_write
toy_train(root, on_event=on_event)
"""


@pytest.mark.parametrize("moment", ["in training", "in a write"])
def test_a_killed_run_goes_on_from_its_last_checkpoint_to_the_same_result(
    tmp_path: Path, moment: str
) -> None:
    root = tmp_path / "killed"
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{tests / 'support'}{os.pathsep}{tests.parent}"}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(root), moment], env=environment, check=False
    )
    assert child.returncode == -signal.SIGKILL
    for line in (root / "events.jsonl").read_text().splitlines()[:-1]:
        json.loads(line)

    again = Losses()
    resumed = toy_train(root, on_event=again, resume=True)
    # A checkpoint is written before every step, and the third one was cut short.
    first_step = 10 if moment == "in training" else 2
    assert min(step for _, step in again.of) == first_step
    assert_same_result(resumed, toy_train(tmp_path / "whole"))
    assert not list((root / "checkpoints").glob(".*")), "remains of the write are removed"


class FlakyPrior(BallPrior):
    """Returns NaN in the calls whose numbers are given."""

    def __init__(self, bad_calls: range) -> None:
        super().__init__()
        self.bad_calls, self.count = bad_calls, 0

    def predict(self, *arguments: torch.Tensor) -> Prediction:
        prediction = super().predict(*arguments)
        self.count += 1
        if self.count - 1 not in self.bad_calls:
            return prediction
        nan = torch.full_like(prediction.eps, torch.nan)
        return Prediction(nan, nan, nan)


def test_a_nan_brings_back_the_last_good_state_at_half_the_learning_rate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = toy_train(tmp_path, prior=FlakyPrior(range(10, 11)))
    restored = [e for e in RunFolder(tmp_path).read_events() if e["kind"] == "restored"]
    assert [(e["step"], e["lr_factor"]) for e in restored] == [(4, 0.5)]
    assert "Step 10 is bad: the loss is nan" in caplog.text
    assert trained.is_finished
    assert all(tensor.isfinite().all() for tensor in parameters(trained).values())


def test_recovery_is_repeatable(tmp_path: Path) -> None:
    a, b = (toy_train(tmp_path / n, prior=FlakyPrior(range(10, 11))) for n in ("a", "b"))
    assert_same_result(a, b)
    assert not torch.equal(
        parameters(a)["representation.features.table"],
        parameters(toy_train(tmp_path / "c"))["representation.features.table"],
    )


def test_a_run_that_keeps_going_bad_diverges_and_keeps_its_last_good_state(tmp_path: Path) -> None:
    stop = StopFlag()
    good = toy_train(tmp_path / "good", on_event=stop_after(stop, ("nerf", 4)), stop=stop)
    with pytest.raises(DivergedError, match="step 4: the loss is nan") as caught:
        toy_train(tmp_path / "bad", prior=FlakyPrior(range(10, 1000)))
    assert "optimizer.lr" in caught.value.fix
    assert kinds(tmp_path / "bad").count("restored") == MAX_RESTORES
    kept = load_trained(
        {"nerf": toy_stage()}, **PLAN, folder=RunFolder(tmp_path / "bad"), device=CPU
    )
    assert kept.step == 4
    assert_same_result(kept, good)


def test_an_object_that_vanishes_is_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparsity loss that overwhelms the guidance empties every view."""
    monkeypatch.setattr(watch, "PATIENCE", 6)
    stage = toy_stage(
        steps=50,
        losses={"opacity_sparsity": {"from": 0.0, "to": 1e6, "begin": 0.1, "end": 0.1}},
        optimizer={"lr": {"table": 0.1, "mlp": 0.1}},
    )
    with pytest.raises(DivergedError, match="empty"):
        toy_train(tmp_path, {"nerf": stage})
    kept = load_trained({"nerf": stage}, **PLAN, folder=RunFolder(tmp_path), device=CPU)
    assert kept.stage.render(kept.stage.view_around(2), 16, 16).alpha.mean() > 0.01


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_a_lack_of_memory_becomes_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def step(stage: Stage, number: int) -> None:
        raise error

    monkeypatch.setattr(Stage, "step", step)
    with pytest.raises(MemoryExhaustedError) as caught:
        toy_train(tmp_path)
    assert "views" in caught.value.fix


def test_other_errors_pass_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(stage: Stage, number: int) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Stage, "step", step)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        toy_train(tmp_path)


def test_stages_that_do_not_fit_together_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no stages"):
        loop.check_stages({})
    with pytest.raises(InputError, match="'fine' is the first one"):
        toy_train(tmp_path, {"fine": STAGES["fine"]})
    with pytest.raises(InputError, match=r"stages\.nerf\.guidance\.name"):
        toy_train(tmp_path, {"nerf": toy_stage(guidance={"name": "sdss"})})
    assert not (tmp_path / "events.jsonl").exists()


def test_prompts_are_encoded_with_the_stages_view_words(tmp_path: Path) -> None:
    prior = BallPrior()
    toy_train(tmp_path, {"nerf": toy_stage(steps=1, prompts={"view": "none"})}, prior=prior)
    assert ("encode_text", 2) in prior.calls, "the prompt and the empty one"
