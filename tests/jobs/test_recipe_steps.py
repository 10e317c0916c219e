"""Claims about recipes for real models and their twins: each takes its steps on a tiny model."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tiny_models import SAVERS, save_tiny_mvdream

from dreamlab.core.config import merge, to_plain
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.recipe_files import list_recipes
from dreamlab.jobs.recipes import RunConfig, load_recipe
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.systems.stage import Stage
from dreamlab.training import loop
from dreamlab.training.events import Event
from dreamlab.training.trainer import StageTrainer

SLOW = {
    "csd",
    "dreamgaussian",
    "hifa",
    "magic3d",
    "mvdream",
    "pgc",
    "prolificdreamer",
    "sd3-rfds",
    "sdi",
    "toybox-fantasia3d",
    "toybox-hifa",
    "toybox-luciddreamer",
    "toybox-mvdream",
    "toybox-pgc",
    "toybox-rfds",
    "toybox-sdi",
}
TWINS = {
    "toybox-csd",
    "toybox-fantasia3d",
    "toybox-hifa",
    "toybox-luciddreamer",
    "toybox-mvdream",
    "toybox-pgc",
    "toybox-rfds",
    "toybox-sdi",
}
"""Recipes for real models at the size of the embedded prior."""
RECIPES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name in list_recipes()
    if name in TWINS or not name.startswith("toybox")
]
MULTI_VIEW = ("mvdream", "toybox-mvdream")
OF_FAMILY = {"pgc": SAVERS["sdxl"], "sd3-rfds": SAVERS["sd3"]}
OF_FAMILY |= dict.fromkeys(MULTI_VIEW, save_tiny_mvdream)
"""Recipes for other models than Stable Diffusion 1 and 2."""
GRID = {"num_levels": 4, "log2_table_size": 10, "finest_resolution": 32}
TINY: dict[str, Any] = {
    "hashgrid": {"grid": GRID, "start_level": 4, "hidden_width": 16},
    "dmtet": {"resolution": 10, "grid": GRID},
    "textured_mesh": {"grid": GRID},
    "uv_mesh": {"texture_size": 64, "max_faces": 300, "unwrap": "box"},
    "gaussians": {"count": 200, "max_count": 400, "opacity": 0.5},
    "volume": {"steps_per_diagonal": 24, "occupancy_resolution": 8},
}
STEPS = 3
STILL = {
    "dreamgaussian": {"refine.offset"},
    "fantasia3d": {"texture.offset"},
    "fantasia3d-texture": {"texture.offset"},
    "prolificdreamer": {"geometry.table", "geometry.mlp", "texture.offset"},
    "toybox-fantasia3d": {
        *("shape.table", "shape.mlp", "normals.table", "normals.mlp"),
        "texture.offset",
    },
}
"""Groups that no step moves: vertices without a reach, and colours where shapes alone are judged
(those of `fantasia3d` are moved by weight decay)."""


def shrunk(name: str) -> RunConfig:
    """The recipe with all of its components and losses, each as small as can be."""
    from dreamlab.core.config import build

    config = load_recipe(name, prompt="a red mushroom next to a blue car")
    plain = to_plain(config)
    for stage in plain["stages"].values():
        small = {
            "steps": STEPS,
            "views": stage["views"] if name in MULTI_VIEW else min(stage["views"], 2),
            "representation": TINY.get(stage["representation"]["name"], {}),
            "renderer": TINY.get(stage["renderer"]["name"], {}),
        }
        if stage["representation"].get("distance_grid") is not None:
            small["representation"] = small["representation"] | {"distance_grid": GRID}
        stage.update(merge(stage, small))
        stage["milestones"] = [{"until": 1.0, "size": 16}]
    return build(RunConfig, plain)


class Watched(StageTrainer):
    """Notes at the end of a stage which groups of parameters no step has moved."""

    still: ClassVar[set[str]] = set()

    def __init__(self, stage: Stage, index: int) -> None:
        super().__init__(stage, index)
        groups = stage.parameter_groups()
        self.before = {name: [p.detach().clone() for p in group] for name, group in groups.items()}

    def finish(self) -> None:
        for name, group in self.stage.parameter_groups().items():
            if all(torch.equal(p, old) for p, old in zip(group, self.before[name], strict=True)):
                self.still.add(f"{self.stage.name}.{name}")
        super().finish()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_takes_its_steps_and_its_parameters_move(
    name: str,
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    any_device: torch.device,
):
    monkeypatch.setattr(loop, "StageTrainer", Watched)
    monkeypatch.setattr(Watched, "still", set())
    config = shrunk(name)
    (tmp_path / "run").mkdir()
    save = OF_FAMILY.get(name)
    folder = tiny_model if save is None else save(tmp_path / "model")
    prior = load_prior(PriorConfig(model=str(folder)), any_device)
    losses: list[float] = []

    def listen(event: Event) -> None:
        if event.kind == "step":
            losses.append(event.values["loss"])

    trained = loop.train(
        config.stages,
        prompt=config.prompt,
        negative_prompt=config.negative_prompt,
        prior=prior,
        seed=0,
        folder=RunFolder(tmp_path / "run"),
        device=any_device,
        on_event=listen,
        layout=config.layout,
    )
    assert trained.is_finished and len(losses) == STEPS * len(config.stages)
    assert torch.tensor(losses).isfinite().all()
    assert {p.device for group in trained.stage.parameter_groups().values() for p in group} == {
        any_device
    }
    assert Watched.still == STILL.get(name, set())
    assert all(
        parameter.isfinite().all()
        for group in trained.stage.parameter_groups().values()
        for parameter in group
    )
