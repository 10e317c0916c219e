"""Claims about what stands between a stage's renders and its rule."""

import math
from typing import Any

import pytest
import torch
from recorder import Recorder
from toy_run import BallPrior, Losses, toy_stage, toy_train

from dreamlab.core.errors import InputError
from dreamlab.core.render import Render
from dreamlab.guidance.base import GuidanceOutput
from dreamlab.guidance.pgc import PixelGradientConfig
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.systems.components import find
from dreamlab.systems.handover import continue_from
from dreamlab.systems.settings import StageConfig
from dreamlab.systems.stage import Stage

CPU = torch.device("cpu")
GRID = {"num_levels": 4, "log2_table_size": 10, "finest_resolution": 24}
OBJECTS: dict[str, dict[str, Any]] = {
    "volume": {},
    "splat": {
        "representation": {"name": "gaussians", "count": 200, "radius": 0.5},
        "renderer": {"name": "splat"},
    },
    "mesh": {
        "representation": {"name": "dmtet", "resolution": 12, "grid": GRID},
        "renderer": {"name": "mesh"},
    },
    "flat": {"representation": {"name": "image", "size": 16}, "renderer": {"name": "flat"}},
}
SHADED = {"ambient_until": 0.0, "albedo": 0.0, "lambertian": 1.0, "textureless": 0.0}
LATENTS = {"name": "latent_image", "channels": 3, "latent_size": 16, "size": 16}


class Spikes:
    """A rule that sees colours, depth and normals, and wants one pixel changed far too much."""

    def __call__(
        self, render: Render, cameras: object, progress: float, generator: object
    ) -> GuidanceOutput:
        loss = render.rgb.sum() + 1e4 * render.rgb[:, 8, 8].sum() + 50 * render.depth.sum()
        if render.normal is not None:
            loss = loss + 100 * render.normal[..., 2].sum()
        return GuidanceOutput(loss / len(render.rgb))


def gradients(config: StageConfig) -> tuple[list[torch.Tensor], dict[str, float], float]:
    """Take the first step of a stage; return gradients, metrics and the loss."""
    stage = Stage("s", config, Spikes(), seed=0, device=CPU)
    result = stage.step(0)
    groups = stage.parameter_groups().values()
    found = [p.grad.clone() for group in groups for p in group if p.grad is not None]
    return found, result.metrics, result.loss


def pictures_of(metrics: dict[str, float]) -> set[str]:
    return {name.removesuffix("_clipped") for name in metrics if name.endswith("_clipped")}


@pytest.mark.parametrize("name", OBJECTS)
def test_every_renderers_pictures_are_clipped_and_an_infinite_threshold_changes_no_bit(name: str):
    normals = {"shading": SHADED, "renderer": toy_stage().renderer | {"normals": "density"}}
    changes = (normals if name == "volume" else {"shading": SHADED}) | OBJECTS[name]
    losses = {} if name == "flat" else {"opacity_sparsity": 1.0}

    def step(policy: PixelGradientConfig | None):
        config = toy_stage(**changes, losses=losses)
        object.__setattr__(config, "pixel_gradient", policy)
        return gradients(config)

    plain, metrics, loss = step(None)
    free = PixelGradientConfig(rgb=math.inf, normal=math.inf, depth=math.inf)
    same, free_metrics, _ = step(free)
    assert len(plain) and all(torch.equal(a, b) for a, b in zip(plain, same, strict=True))
    assert pictures_of(metrics) == set()
    expected = {"rgb"} if name == "flat" else {"rgb", "normal", "depth"}
    assert pictures_of(free_metrics) == expected
    clipped, clip_metrics, same_loss = step(PixelGradientConfig(rgb=3.0, normal=1.0, depth=1.0))
    assert loss == same_loss, "only the way back changes"
    assert clip_metrics["rgb_clipped"] == pytest.approx(1 / 256)
    assert clip_metrics["rgb_gradient_max"] == pytest.approx(10001 * 3**0.5, rel=1e-3)
    norms = [math.sqrt(sum(float(g.square().sum()) for g in gs)) for gs in (clipped, plain)]
    assert 0 < norms[0] < norms[1]


LIT: dict[str, dict[str, Any]] = {
    **{name: {"shading": SHADED, **changes} for name, changes in OBJECTS.items() if name != "flat"},
    "volume, normals of the density": {
        "shading": SHADED,
        "renderer": toy_stage().renderer | {"normals": "density"},
    },
    "mesh with a material": {
        "shading": {"ambient_until": 0.0, "albedo": 0.0, "lambertian": 0.0, "pbr": 1.0}
        | {"textureless": 0.0},
        **OBJECTS["mesh"],
        "representation": OBJECTS["mesh"]["representation"] | {"material": {}},
    },
}


@pytest.mark.parametrize("name", LIT)
def test_in_a_lit_view_a_rule_may_see_the_colours_of_the_same_view_without_light(name: str):
    def seen(*, needs_albedo: bool = False, **changes: Any) -> Render:
        config = toy_stage(**LIT[name] | changes, losses={})
        watched = Recorder(needs_albedo=needs_albedo)
        Stage("s", config, watched, seed=0, device=CPU).step(0)
        return watched.renders[0]

    plain, lit, both = seen(shading={}), seen(), seen(needs_albedo=True)
    assert plain.albedo is None and lit.albedo is None, "it is not drawn unless it is looked at"
    assert both.albedo is not None and torch.equal(both.rgb, lit.rgb)
    torch.testing.assert_close(both.albedo, plain.rgb, atol=1e-6, rtol=0)
    assert (both.albedo - both.rgb).abs().max() > 0.05

    prior = BallPrior()
    rule = find("guidance", {"name": "sds", "sees": "albedo"})
    prompts = Prompts.encode(prior, "a ball", "", PromptConfig(view="none"))
    config = toy_stage(**LIT[name], losses={})
    stage = Stage("s", config, rule.module.build(rule.config, prior, prompts), seed=0, device=CPU)
    stage.step(0)
    groups = stage.parameter_groups()
    colored = groups["color" if name == "splat" else "mlp"]
    assert any(p.grad is not None and p.grad.any() for p in colored)


def test_a_picture_without_light_is_the_picture():
    config = toy_stage(**OBJECTS["flat"], losses={})
    watched = Recorder(needs_albedo=True)
    Stage("s", config, watched, seed=0, device=CPU).step(0)
    (render,) = watched.renders
    assert render.albedo is not None and torch.equal(render.albedo, render.rgb)


def test_the_same_views_clipped_in_a_batch_of_another_size_get_the_same_gradient():
    def gradient(views: int) -> torch.Tensor:
        changes = OBJECTS["flat"] | {"losses": {}, "views": views}
        found, _, _ = gradients(toy_stage(**changes, pixel_gradient={"rgb": 5.0}))
        return found[0]

    torch.testing.assert_close(gradient(1), gradient(4))


def test_a_recipe_chooses_the_way_back_and_a_picture_is_found_by_each(tmp_path):
    final: dict[str, torch.Tensor] = {}
    common = {
        "steps": 30,
        "views": 2,
        "losses": {},
        "cameras": {"azimuth": [0, 0], "elevation": [0, 0]},
        "optimizer": {"lr": {"pixels": 0.4, "latents": 0.2}},
    }
    flat = OBJECTS["flat"] | common
    ways: dict[str, dict[str, Any]] = {
        "exact": {},
        "linear": {"encoder_gradient": "linear"},
        "clipped": {"pixel_gradient": {"policy": "norm2", "rgb": 1.0}},
        "latents": {"representation": LATENTS},
    }
    for name, way in ways.items():
        losses = Losses()
        stages = {"image": toy_stage(**flat | way)}
        trained = toy_train(tmp_path / name, stages, on_event=losses)
        assert trained.is_finished and len(losses.of) == 30
        render = trained.stage.render(trained.stage.view_around(1), 16, 16)
        final[name] = render.rgb[0]
        middle, corner = final[name][6:10, 6:10].mean((0, 1)), final[name][0, 0]
        assert middle[0] > 0.75 and middle[1:].max() < 0.3, name  # a red disc ...
        assert corner.min() > 0.75, name  # ... on white
    for name in ("clipped", "latents"):
        assert not torch.equal(final[name], final["exact"])


def test_latents_of_another_shape_than_the_priors_are_refused_with_the_right_numbers(tmp_path):
    wrong = OBJECTS["flat"] | {"representation": LATENTS | {"channels": 4}, "losses": {}}
    with pytest.raises(InputError, match=r"channels=3.*latent_size=16"):
        toy_train(tmp_path, {"image": toy_stage(**wrong)}, prior=BallPrior())


def test_a_picture_has_no_surface_for_the_next_stage():
    first = Stage("a", toy_stage(**OBJECTS["flat"], losses={}), None, seed=0, device=CPU)
    config = toy_stage(**OBJECTS["splat"], losses={}, start_from="previous")
    second = Stage("b", config, None, seed=0, device=CPU)
    with pytest.raises(InputError, match="no surface"):
        continue_from(second, first)
