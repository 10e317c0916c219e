"""The recipes with VSD, stage after stage at toy size on a tiny random pipeline."""

from pathlib import Path

import pytest
import torch

from dreamlab.core.run_folder import RunFolder
from dreamlab.core.schedules import Schedule
from dreamlab.guidance.learning import Learning
from dreamlab.jobs.recipes import load_recipe
from dreamlab.priors.load import load_prior
from dreamlab.training.loop import Trained, train

PROMPT = "a red mushroom"
SMALL_GRID = "{num_levels: 4, log2_table_size: 10, base_resolution: 4, finest_resolution: 16}"
SMALL = {
    "prolificdreamer": [
        *(f"stages.{stage}.steps=2" for stage in ("nerf", "geometry", "texture")),
        *(
            f"stages.{stage}.milestones=[{{until: 1.0, size: 16}}]"
            for stage in ("nerf", "geometry", "texture")
        ),
        *(f"stages.{stage}.representation.grid={SMALL_GRID}" for stage in ("nerf", "texture")),
        "stages.nerf.renderer.steps_per_diagonal=32",
        "stages.geometry.representation.resolution=10",
    ],
    "toybox-vsd": [
        *(f"stages.{stage}.steps=2" for stage in ("gaussians", "mesh")),
        *(
            f"stages.{stage}.milestones=[{{until: 1.0, size: 16}}]"
            for stage in ("gaussians", "mesh")
        ),
        "stages.gaussians.representation={name: gaussians, count: 400, radius: 0.5, opacity: 0.5}",
        "stages.mesh.representation.resolution=10",
        "stages.mesh.representation.grid.log2_table_size=10",
    ],
}


def train_small(recipe: str, folder: Path, model: Path) -> Trained:
    overrides = [f"prior.model={model}", *SMALL[recipe]]
    config = load_recipe(recipe, overrides=overrides, prompt=PROMPT)
    return train(
        config.stages,
        prompt=config.prompt,
        negative_prompt="",
        prior=load_prior(config.prior, "cpu"),
        seed=0,
        folder=RunFolder(folder),
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize(
    "recipe", ["toybox-vsd", pytest.param("prolificdreamer", marks=pytest.mark.slow)]
)
def test_all_stages_run_and_the_learned_score_learns(tmp_path: Path, tiny_model: Path, recipe: str):
    trained = train_small(recipe, tmp_path, tiny_model)
    assert trained.is_finished and trained.object_steps == 2 * len(trained.steps)
    steps = [event for event in RunFolder(tmp_path).read_events() if event["kind"] == "step"]
    judged = [event for event in steps if "learned_error" in event["metrics"]]
    assert {event["stage"] for event in judged} == LEARNING_STAGES[recipe]
    assert isinstance(trained.stage.guidance, Learning)
    state = trained.stage.state()
    learned = [t for name, t in state.items() if name.startswith("guidance.score.")]
    assert learned and all(tensor.isfinite().all() for tensor in learned)
    assert state["guidance.score.camera.2.weight"].any(), "it began at zero"


LEARNING_STAGES = {"prolificdreamer": {"nerf", "texture"}, "toybox-vsd": {"mesh"}}


def test_prolificdreamer_has_the_published_hyperparameters_in_our_conventions():
    stages = load_recipe("prolificdreamer", prompt=PROMPT).stages
    assert [stage.steps for stage in stages.values()] == [25_000, 15_000, 30_000]
    assert [stages["nerf"].size_at(p) for p in (0.1, 0.3)] == [64, 512]
    for name, end in (("nerf", 0.2), ("geometry", 0.333), ("texture", 0.167)):
        highest = stages[name].guidance["timesteps"]["t_max"]
        assert highest == {"from": 0.98, "to": 0.5, "begin": 0.0, "end": end, "ease": "step"}
    for name in ("nerf", "texture"):
        rule = stages[name].guidance
        assert (rule["name"], rule["guidance_scale"], rule["learning_rate"]) == ("vsd", 7.5, 1e-4)
    assert stages["geometry"].guidance["guidance_scale"] == 101
    assert stages["geometry"].representation["resolution"] == 64
    entropy = stages["nerf"].losses["opacity_entropy"]
    assert entropy == Schedule(0.0, 1000.0, end=0.4, ease="step")
    assert stages["texture"].representation["reach"] == 0
