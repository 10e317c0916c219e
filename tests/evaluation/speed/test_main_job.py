"""Claims about what a step is compared with."""

import pytest

from dreamlab.evaluation.speed.main_job import on_backend
from dreamlab.jobs.recipes import load_recipe
from dreamlab.systems import components


@pytest.mark.parametrize(("recipe", "name"), [("toybox-nerf", "nerf"), ("toybox", "mesh")])
def test_a_stage_on_a_backend_differs_in_nothing_else(recipe, name):
    stage = load_recipe(recipe, prompt="a red mushroom").stages[name]
    moved = on_backend(stage, "reference")
    for kind, part in (("representations", "representation"), ("renderers", "renderer")):
        before, after = (components.find(kind, getattr(s, part)) for s in (stage, moved))
        assert before.config.backend == "auto" and after.config.backend == "reference"
    assert on_backend(moved, "warp") == on_backend(stage, "warp")
