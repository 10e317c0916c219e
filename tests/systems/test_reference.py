"""Guidance that compares is shown the object as the stage found it, and no other pays for that."""

from typing import Any

import pytest
import torch
from recorder import Recorder
from toy_run import toy_stage

from dreamlab.core.errors import InputError
from dreamlab.guidance.base import GuidanceOutput
from dreamlab.guidance.prompts import Prompts
from dreamlab.systems.stage import Stage

CPU = torch.device("cpu")
GRID = {"num_levels": 4, "log2_table_size": 10, "finest_resolution": 24}
RANDOM = {"name": "random", "random_probability": 1.0}
OBJECTS: dict[str, dict[str, Any]] = {
    "hashgrid": {
        "representation": {**toy_stage().representation, "start_level": 2, "all_levels_at": 1.0},
        "renderer": {**toy_stage().renderer, "background": RANDOM},
    },
    "gaussians": {
        "representation": {"name": "gaussians", "count": 200, "max_count": 200, "opacity": 0.5},
        "renderer": {"name": "splat", "background": RANDOM},
    },
    "textured_mesh": {
        "representation": {"name": "textured_mesh", "grid": GRID, "reach": 0.1},
        "renderer": {"name": "mesh", "background": RANDOM},
    },
}
LIT = {"ambient_until": 0.0, "albedo": 0.0, "lambertian": 1.0, "textureless": 0.0}


class Comparer(Recorder):
    reference_prompt = "a ball"

    def compare_with(self, prompts: Prompts) -> None:
        self.prompts = prompts

    def __call__(
        self, render: Any, cameras: object, progress: float, generator: object
    ) -> GuidanceOutput:
        return super().__call__(render, cameras, progress, generator)


def stage_of(name: str, guidance: Recorder, **changes: Any) -> Stage:
    settings = {**OBJECTS[name], "shading": LIT, "losses": {}, **changes}
    stage = Stage("only", toy_stage(**settings), guidance, seed=0, device=CPU)
    stage.keep_reference()
    return stage


def shake(stage: Stage) -> None:
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for group in stage.parameter_groups().values():
            for p in group:
                p.add_(0.5 * torch.randn(p.shape, generator=draw))


@pytest.mark.parametrize("name", OBJECTS)
def test_the_reference_is_the_same_view_of_the_object_before_any_step(name: str):
    comparer, shaken = Comparer(), Comparer()
    stage, other = stage_of(name, comparer), stage_of(name, shaken)
    shake(other)
    for step in (0, 5):
        stage.step(step)
        other.step(step)
    for render, changed in zip(comparer.renders, shaken.renders, strict=True):
        assert render.reference is not None and changed.reference is not None
        assert torch.allclose(render.rgb, render.reference.rgb, atol=1e-5)
        assert torch.allclose(render.alpha, render.reference.alpha, atol=1e-5)
        assert torch.allclose(changed.reference.rgb, render.rgb, atol=1e-5)
        assert render.alpha.max() > 0.2
        assert not torch.allclose(changed.rgb, changed.reference.rgb, atol=0.01)
        assert render.rgb.requires_grad and not render.reference.rgb.requires_grad


@pytest.mark.parametrize("name", ["textured_mesh"])
def test_nothing_is_rendered_for_guidance_that_does_not_compare(name: str):
    recorder = Recorder()
    stage = stage_of(name, recorder)
    stage.step(0)
    assert recorder.renders[0].reference is None
    assert not any(part.startswith("reference.") for part in stage.state())


def test_each_particle_has_a_reference_of_its_own():
    comparer = Comparer()
    stage = stage_of("gaussians", comparer, particles=2)
    seen = set()
    for step in range(6):
        seen.add(stage.particle_at(step))
        stage.step(step)
    assert seen == {0, 1}
    for render in comparer.renders:
        assert render.reference is not None and torch.equal(render.rgb, render.reference.rgb)


def test_the_reference_is_no_parameter_but_part_of_the_state():
    stage = stage_of("textured_mesh", Comparer())
    parameters = {id(p) for group in stage.parameter_groups().values() for p in group}
    held = [p for pair in stage._references for part in pair for p in part.parameters()]
    assert held and not any(p.requires_grad or id(p) in parameters for p in held)
    again = stage_of("textured_mesh", Comparer())
    shake(stage)
    again.load_state(stage.state())
    for name, tensor in stage.state().items():
        assert torch.equal(again.state()[name], tensor), name


def test_latents_cannot_be_compared():
    picture = {
        "representation": {"name": "latent_image", "size": 16, "latent_size": 16, "channels": 3},
        "renderer": {"name": "flat"},
    }
    stage = Stage("only", toy_stage(**picture, losses={}), Comparer(), seed=0, device=CPU)
    with pytest.raises(InputError, match="latents"):
        stage.keep_reference()
