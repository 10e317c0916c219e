"""What ControlNets see of a render, and that every rule shows it to them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from guided_views import as_render, cameras_at
from learned_gaussian import LearnableGaussianPrior
from rules import CASES, gaussian
from tiny_models import save_tiny_controlnet
from torch import Tensor
from toy_run import toy_stage

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.render import Render
from dreamlab.guidance.comparing import Comparing
from dreamlab.guidance.controls import (
    ControlConfig,
    ControlledPrompts,
    camera_normals,
    check_controls,
    inverse_depth,
)
from dreamlab.guidance.learning import Learning
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.priors.base import Prediction
from dreamlab.priors.controlnet import Control
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.systems.components import find
from dreamlab.systems.guidance import build_guidance
from dreamlab.systems.stage import Stage

CAMERAS = cameras_at([0.0, 70.0, -130.0], [0.0, 35.0, -10.0])
RADIUS = 0.8


def ball(cameras: Cameras, size: int = 33) -> tuple[Render, Tensor]:
    """A unit-opaque ball at the origin, and the depth of its points along the camera's axis."""
    origin, direction = cameras.rays(size, size)
    b = (origin * direction).sum(-1, keepdim=True)
    root = b.square() - origin.square().sum(-1, keepdim=True) + RADIUS**2
    alpha = (root > 0).float()
    depth = alpha * (-b - root.clamp(min=0).sqrt())
    point = origin + depth * direction
    axis = -cameras.camera_to_world[:, None, None, :3, 2]
    along = ((point - origin) * axis).sum(-1, keepdim=True)
    normal = alpha * point / RADIUS
    return Render(torch.rand(len(cameras), size, size, 3), alpha, depth, normal=normal), along


def test_depth_is_inverse_bright_where_near_and_black_behind():
    render, along = ball(CAMERAS)
    picture = inverse_depth(render, CAMERAS)
    for i in range(len(CAMERAS)):
        inside = render.alpha[i] > 0.5
        q = 1 / along[i][inside]
        expected = (q - q.min()) / (q.max() - q.min())
        torch.testing.assert_close(picture[i][inside], expected, rtol=1e-4, atol=1e-4)
        assert not picture[i][~inside].any()
    assert picture[:, 16, 16, 0].min() > 0.99  # the middle is nearest


def test_a_wall_of_one_depth_is_white_and_soft_opacity_does_not_change_depth():
    direction = CAMERAS.rays(9, 9)[1]
    axis = -CAMERAS.camera_to_world[:, None, None, :3, 2]
    depth = 2.5 / (direction * axis).sum(-1, keepdim=True)
    alpha = torch.full_like(depth, 0.8)
    alpha[:, :, :3] = 0.3
    picture = inverse_depth(Render(direction, alpha, alpha * depth), CAMERAS)
    torch.testing.assert_close(picture[:, :, 3:], torch.ones(3, 9, 6, 1), rtol=0, atol=5e-3)
    assert not picture[:, :, :3].any()


def test_an_empty_view_is_black():
    nothing = torch.zeros(1, 4, 4, 1)
    assert not inverse_depth(
        Render(nothing.expand(-1, -1, -1, 3), nothing, nothing), CAMERAS[:1]
    ).any()


def test_normals_are_blue_to_the_front_red_to_the_left_green_to_the_top():
    render, _ = ball(CAMERAS)
    picture = camera_normals(render, CAMERAS)
    for view in picture:  # a ball looks the same from everywhere
        torch.testing.assert_close(view, picture[0], rtol=0, atol=1e-4)
    left, right = picture[0, 16, 8], picture[0, 16, 24]
    top, bottom = picture[0, 8, 16], picture[0, 24, 16]
    torch.testing.assert_close(picture[0, 16, 16], torch.tensor([0.5, 0.5, 1.0]), atol=1e-3, rtol=0)
    assert left[0] > 0.7 > 0.3 > right[0] and top[1] > 0.7 > 0.3 > bottom[1]
    torch.testing.assert_close(picture[0, 0, 0], torch.tensor([0.5, 0.5, 1.0]))  # a wall behind


@pytest.mark.parametrize("sees", [inverse_depth, camera_normals])
def test_a_views_picture_depends_on_nothing_else_and_has_no_gradient(sees: Any):
    render, _ = ball(CAMERAS)
    whole = sees(render, CAMERAS)
    fields = {n: getattr(render, n)[1:2] for n in ("rgb", "alpha", "depth", "normal")}
    assert torch.equal(sees(Render(**fields), CAMERAS[1:2]), whole[1:2])


class Watched(LearnableGaussianPrior):
    """Notes which pictures each row was shown."""

    def predict(
        self, noisy: Tensor, t: Tensor, conditioning: Tensor, control: Control | None = None
    ) -> Prediction:
        assert control is not None and control.names == ("net",) and control.strengths == (0.5,)
        assert len(control.pictures) == len(noisy) and not control.pictures.requires_grad
        self.shown.append(control.pictures[:, 0].mean(dim=(1, 2, 3)))
        return super().predict(noisy, t, conditioning)

    shown: list[Tensor]


@pytest.mark.parametrize("view", ["none", "perp_neg"])
@pytest.mark.parametrize("case", CASES)
def test_every_rule_shows_every_row_the_picture_of_its_view(case: str, view: str):
    base = gaussian(image_size=4)
    prior = Watched(mean=base.mean, std=base.std, image_size=4)
    prior.shown = []
    controls = (ControlConfig("net", "depth", 0.5),)
    config = PromptConfig(view=view)  # type: ignore[arg-type]

    def wrapped(prompt: str) -> ControlledPrompts:
        return ControlledPrompts(Prompts.encode(prior, prompt, "ugly", config), controls, 4)

    chosen = CASES[case]
    found = find("guidance", {"name": chosen.name, **chosen.options})
    rule = found.module.build(found.config, prior, wrapped("cat"))
    if isinstance(rule, Comparing):
        rule.compare_with(wrapped(rule.reference_prompt))
    if isinstance(rule, Learning):
        plain = Prompts.encode(prior, "cat", "ugly", PromptConfig(view="none"))
        rule.begin(prior, plain, torch.Generator().manual_seed(0))
    render = as_render(torch.rand(2, 4, 4, 3, requires_grad=True))
    half = torch.ones(2, 4, 4, 1)
    half[1, :2] = 0.0  # the second view shows half as much
    before = replace(render.reference, alpha=half) if render.reference else None
    render = replace(render, alpha=half, reference=before)
    rule(render, CAMERAS[:2], 0.5, torch.Generator().manual_seed(0)).loss.backward()
    first, second = (inverse_depth(render, CAMERAS[:2])[i].mean() for i in (0, 1))
    assert first > 1.5 * second > 0
    assert prior.shown
    for rows in prior.shown:
        expected = torch.stack([first, second]).repeat_interleave(len(rows) // 2)
        torch.testing.assert_close(rows, expected)


def test_a_missing_buffer_or_render_is_named():
    prompts = Prompts.encode(gaussian(), "cat", "", PromptConfig(view="none"))
    wrapped = ControlledPrompts(prompts, (ControlConfig("net", "normal"),), 4)
    with pytest.raises(InputError, match="this renderer makes none"):
        wrapped.for_views(CAMERAS[:1], as_render(torch.rand(1, 4, 4, 3)))
    with pytest.raises(ValueError, match="need a render"):
        wrapped.for_views(CAMERAS)


def test_settings_are_checked_before_anything_is_loaded():
    with pytest.raises(InputError, match=r"controls\[0\]: sd15-normal sees normal, not depth"):
        check_controls((ControlConfig("sd15-normal", "depth"),), "stages.a.controls")
    with pytest.raises(InputError, match="no ControlNet"):
        toy_stage(controls=[{"model": "sd15-deep"}]).resolved("stages.a")
    flat = {"representation": {"name": "image"}, "renderer": {"name": "flat"}}
    with pytest.raises(InputError, match="a picture has neither depth nor normals"):
        toy_stage(controls=[{"model": "sd15-depth"}], **flat).resolved("stages.a")
    with pytest.raises(InputError, match="strength must be >= 0"):
        toy_stage(controls=[{"model": "sd15-depth", "strength": -1}])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sds", "vsd"])
def test_a_stage_of_a_real_prior_is_steered(sd_folder: Path, tmp_path: Path, name: str):
    net = str(save_tiny_controlnet(tmp_path / "net"))
    prior = load_prior(PriorConfig(model=str(sd_folder), memory=[]), "cpu", controls=[net])

    def stepped(strength: float | None, sees: str) -> dict[str, float]:
        controls = [] if strength is None else [{"model": net, "sees": sees, "strength": strength}]
        config = toy_stage(guidance={"name": name}, controls=controls, losses={})
        texts = {"prompt": "a cat", "negative_prompt": "", "seed": 0}
        guidance = build_guidance("a", config, prior, **texts)
        stage = Stage("a", config, guidance, seed=0, device=torch.device("cpu"))
        return stage.step(0).metrics

    plain, silent = stepped(None, "depth"), stepped(0.0, "normal")
    assert silent["gradient_rms"] == pytest.approx(plain["gradient_rms"], rel=1e-4)
    rms = {sees: stepped(1.0, sees)["gradient_rms"] for sees in ("depth", "normal")}
    assert len({round(value, 6) for value in (*rms.values(), plain["gradient_rms"])}) == 3


def test_a_prior_without_the_controlnet_is_no_silent_fallback():
    config = toy_stage(controls=[{"model": "sd15-depth"}])
    with pytest.raises(ValueError, match="without the ControlNets sd15-depth"):
        build_guidance("a", config, gaussian(), prompt="cat", negative_prompt="", seed=0)
