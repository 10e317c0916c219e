"""Every recipe of more than one kind of stage takes a few steps, with a tiny random pipeline."""

import pytest
import torch

from dreamlab.core.run_folder import RunFolder
from dreamlab.core.schedules import Schedule
from dreamlab.export.pipeline import export_model
from dreamlab.jobs.recipes import load_recipe
from dreamlab.priors.load import load_prior
from dreamlab.systems.surface import silhouettes
from dreamlab.training.loop import train

GRID = ("grid.num_levels=4", "grid.log2_table_size=10", "grid.finest_resolution=24")
SMALL = {
    "gaussians": ("count=500", "max_count=600", "radius=0.5", "opacity=0.5"),
    "dmtet": ("resolution=12", *GRID),
    "hashgrid": (*GRID, "start_level=2"),
    "uv_mesh": ("texture_size=128", "unwrap=box", "max_faces=1000"),
}
"""Settings of representations that bring a step down to a fraction of a second."""
STAGES = {
    "dreamgaussian": ("gaussians", "uv_mesh"),
    "magic3d": ("hashgrid", "dmtet"),
    "toybox-gaussians": ("gaussians",),
    "toybox-mesh": ("dmtet", "dmtet"),
    "toybox-nerf-mesh": ("hashgrid", "dmtet"),
    "toybox-refine": ("gaussians", "dmtet", "uv_mesh"),
}
EXPORT = ("resolution=32", "max_faces=1000", "texture_size=128", "unwrap=box")
CPU = torch.device("cpu")


def small(name: str) -> list[str]:
    """Overrides that bring a recipe down to a step a stage."""
    changes = [f"export.{setting}" for setting in EXPORT]
    for stage, config in load_recipe(name, prompt="x").stages.items():
        settings = (f"representation.{x}" for x in SMALL[config.representation["name"]])
        own = ["steps=1", "milestones=[{until: 1.0, size: 16}]", *settings]
        if config.renderer["name"] == "volume":
            own.append("renderer.steps_per_diagonal=32")
        if (name, stage) == ("toybox-mesh", "coarse"):
            own.append("representation.resolution=8")  # so that the next grid is another one
        changes += [f"stages.{stage}.{setting}" for setting in own]
    return changes


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_a_recipe_runs_from_its_first_stage_to_its_files(tmp_path, tiny_model, name: str):
    overrides = [f"prior.model={tiny_model}", *small(name)]
    config = load_recipe(name, overrides=overrides, prompt="a red mushroom")
    kinds = tuple(stage.representation["name"] for stage in config.stages.values())
    assert kinds == STAGES[name]
    trained = train(
        config.stages,
        prompt=config.prompt,
        negative_prompt="",
        prior=load_prior(config.prior, CPU),
        seed=0,
        folder=RunFolder(tmp_path),
        device=CPU,
    )
    assert trained.is_finished
    assert all(tensor.isfinite().all() for tensor in trained.stage.state().values())
    extras = {"prompt": "x", "seed": 0, "config_hash": "x"}
    reference = silhouettes(trained.stage, ((3, 0.0, 0.0),), 32)
    shape = trained.stage.representation
    report = export_model(shape, reference, config.export, tmp_path, name="x", extras=extras)
    assert report.valid and "model.glb" in report.files
    assert ("splats.ply" in report.files) == (kinds[-1] == "gaussians")
    assert (report.unwrap_method is None) == (kinds[-1] == "uv_mesh")


def test_dreamgaussian_has_the_published_hyperparameters_in_our_conventions():
    first, second = load_recipe("dreamgaussian", prompt="x").stages.values()
    assert (first.steps, second.steps) == (500, 50)
    assert [first.size_at(p) for p in (0.0, 0.4, 0.9)] == [128, 256, 512]
    assert first.guidance["guidance_scale"] == second.guidance["guidance_scale"] == 100
    assert first.optimizer.lr["mean"] == Schedule(0.01, 0.0002, end=0.6, ease="log")
    rates = {"color": 0.01, "opacity": 0.05, "scale": 0.005, "rotation": 0.005}
    assert {name: first.optimizer.lr[name] for name in rates} == rates
    form = first.representation
    assert (form["count"], form["radius"], form["control"]["every"]) == (5000, 0.5, 50)
    assert (form["control"]["min_opacity"], form["control"]["split_above"]) == (0.01, 0.04)
    assert (first.cameras.distance, first.cameras.fov_y) == ((2.5, 2.5), (49.1, 49.1))
    assert first.cameras.elevation == (-30.0, 30.0)
    start = second.guidance["t_start"]
    assert (1 - start["from"], 1 - start["to"]) == (0.8, 0.95)
    assert second.optimizer.lr["texture"] == 0.2


def test_magic3d_has_the_published_hyperparameters_in_our_conventions():
    coarse, fine = load_recipe("magic3d", prompt="x").stages.values()
    assert (coarse.steps, fine.steps, fine.size_at(0.5)) == (10_000, 5_000, 512)
    assert coarse.guidance["guidance_scale"] == fine.guidance["guidance_scale"] == 101
    assert (coarse.guidance["weighting"], fine.guidance["weighting"]) == ("uniform", "sds")
    assert coarse.losses["orientation"] == Schedule(10.0, 1000.0, end=0.5)
    assert (coarse.shading.ambient_until, fine.shading.ambient_until) == (0.2, 0.0)
    assert coarse.shading.ambient == fine.shading.ambient == (0.0, 1.0)
    assert coarse.cameras.distance == fine.cameras.distance == (1.5, 2.0)
    assert fine.guidance["timesteps"]["t_max"] == 0.5
    assert fine.losses["normal_consistency"] == 10_000 and fine.cameras.fov_y == (30.0, 45.0)
