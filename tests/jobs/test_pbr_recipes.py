"""Claims about the recipes that find a material, run for a few steps with a tiny random prior."""

from dataclasses import replace

import numpy as np
import pytest

from dreamlab.export.files.reload import load_glb
from dreamlab.jobs import export as export_job
from dreamlab.jobs import views
from dreamlab.jobs.generate import generate, prepare
from dreamlab.jobs.recipes import load_recipe

TEXTURE = (
    "stages.texture.steps=2",
    "stages.texture.milestones=[{until: 1.0, size: 16}]",
    "stages.texture.representation.grid.log2_table_size=10",
    "export.max_faces=1500",
    "export.texture_size=256",
    "export.unwrap=box",
)


@pytest.mark.parametrize(
    "name", ["fantasia3d-texture", pytest.param("toybox-pbr", marks=pytest.mark.slow)]
)
def test_a_run_ends_with_a_file_that_carries_its_material(
    name, tiny_model, small_settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(views, "FRAMES", 2)
    monkeypatch.setattr(views, "MESH_SIZE", 32)
    monkeypatch.setattr(views, "SHEET_SIZE", 32)
    monkeypatch.setattr(export_job, "REFERENCE_SIZE", 48)
    of_stages = small_settings if name == "toybox-pbr" else TEXTURE
    last = list(load_recipe(name, prompt="x").stages)[-1]
    fast = [f"stages.{last}.optimizer.lr.{group}=0.5" for group in ("table", "mlp")]
    overrides = [f"prior.model={tiny_model}", *of_stages, *fast]
    config = load_recipe(name, "draft", overrides, prompt="a red mushroom")
    outcome = generate(config, prepare(config, tmp_path), device="cpu")
    assert outcome.report["complete"] and outcome.report["export"]["valid"]
    stage = list(config.stages.values())[-1]
    mesh = load_glb(outcome.folder.exports / "model.glb")
    assert mesh.metallic_roughness is not None and mesh.normal_map is not None
    material = stage.representation["material"]
    for channel, key in ((1, "roughness"), (2, "metallic")):
        low, high = (255 * limit for limit in material[key])
        values = mesh.metallic_roughness[..., channel].astype(float)
        assert low - 1 <= values.min() and values.max() <= high + 1
        middle = 0.5 * (low + high)
        assert np.abs(values - middle).max() > 0.5  # it has moved from where it began


def test_the_texture_stage_has_the_published_hyperparameters_in_our_conventions():
    (stage,) = load_recipe("fantasia3d-texture", prompt="x").stages.values()
    assert (stage.steps, stage.views, stage.size_at(0.5)) == (5000, 1, 512)
    assert stage.guidance["guidance_scale"] == 101
    timesteps = stage.guidance["timesteps"]
    assert (timesteps["t_min"], timesteps["t_max"]) == (0.02, 0.5)
    assert (stage.cameras.distance, stage.cameras.fov_y) == ((3.0, 3.0), (25.0, 45.0))
    material = stage.representation["material"]
    assert material == {"metallic": [0.0, 0.9], "roughness": [0.08, 0.9], "bump": 1.0}
    assert (stage.optimizer.name, stage.optimizer.lr["table"]) == ("adamw", 0.01)
    assert stage.shading.pbr == 1 and stage.shading.ambient_until == 0


def test_fantasia3d_has_the_published_hyperparameters_in_our_conventions():
    shape, normals, texture = load_recipe("fantasia3d", prompt="x").stages.values()
    assert (shape.steps, normals.steps, texture.steps) == (1000, 9000, 5000)
    assert (shape.guidance["sees"], normals.guidance["sees"]) == ("shape", "normal")
    for stage in (shape, normals):
        assert stage.guidance["guidance_scale"] == 101
        assert stage.guidance["weighting"] == "fantasia3d"
        assert stage.guidance["timesteps"]["t_max"] == 0.5
        assert (stage.views, stage.size_at(0.5)) == (1, 512)
        assert (stage.cameras.distance, stage.cameras.fov_y) == ((3.0, 3.0), (25.0, 45.0))
        assert stage.optimizer.name == "adamw" and stage.optimizer.lr["distance"] == 0.001
        assert stage.optimizer.weight_decay == 0.01 and not stage.losses
        form = stage.representation
        assert (form["resolution"], form["radii"]) == (64, [0.5, 0.5, 0.5])
        assert form["distance_grid"]["finest_resolution"] == 4096
    (alone,) = load_recipe("fantasia3d-texture", prompt="x").stages.values()
    assert texture == replace(alone, start_from="previous")


def test_the_small_recipe_is_the_default_one_but_for_material_and_light():
    plain, shiny = (load_recipe(name, prompt="x").stages for name in ("toybox", "toybox-pbr"))
    assert plain["gaussians"] == shiny["gaussians"]
    mesh, other = plain["mesh"], shiny["mesh"]
    assert (mesh.guidance, mesh.losses, mesh.cameras) == (
        other.guidance,
        other.losses,
        other.cameras,
    )
    assert mesh.representation == other.representation | {"material": None}
