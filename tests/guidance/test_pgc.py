"""Pixel-wise gradient clipping against its formulas, and around SDS with exact scores."""

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from analytic import GaussianPrior
from guided_views import as_render, cameras_at

from dreamlab.core.config import build as build_config
from dreamlab.core.errors import InputError
from dreamlab.core.render import Render
from dreamlab.core.schedules import Schedule
from dreamlab.guidance.pgc import (
    PixelGradientConfig,
    PixelGradients,
    Policy,
    clip_gradient,
    percentiles,
)
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.sds import Config, build
from dreamlab.guidance.timesteps import TimestepConfig

POLICIES: tuple[Policy, ...] = get_args(Policy)
BY_NORM = [policy for policy in POLICIES if policy != "value"]
KINDS = ["epsilon", "v_prediction", "sample", "flow"]
MEAN = [0.6, -0.2, 0.1]
ROUNDING = 1 + 1e-6


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spiky(batch: int = 3, channels: int = 3) -> torch.Tensor:
    """Gradients of sizes over six orders of magnitude."""
    scale = 10 ** (6 * torch.rand(batch, 5, 7, 1, generator=seeded(1)) - 4)
    return scale * torch.randn(batch, 5, 7, channels, generator=seeded(2))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("limit", [1e-3, 0.1, 30.0])
def test_sizes_are_bounded(limit: float, channels: int):
    g = spiky(channels=channels)
    assert clip_gradient(g, "value", limit).abs().max() <= limit
    assert clip_gradient(g, "norm_inf", limit).abs().max() <= limit * ROUNDING
    for policy in ("norm2", "soft", "global", "normalized"):
        norm = clip_gradient(g, policy, limit).norm(dim=-1)
        assert norm.max() <= limit * ROUNDING, policy
    norm = g.norm(dim=-1, keepdim=True)
    rms = norm.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    adapted = clip_gradient(g, "adaptive", limit).norm(dim=-1, keepdim=True)
    assert (adapted <= limit * rms * ROUNDING).all()


def test_the_policies_are_their_formulas():
    g, c = spiky(), 0.5
    two, largest_channel = g.norm(dim=-1, keepdim=True), g.abs().amax(dim=-1, keepdim=True)
    largest = two.amax(dim=(1, 2), keepdim=True)
    rms = two.square().mean(dim=(1, 2), keepdim=True).sqrt()
    expected = {
        "value": g.clamp(-c, c),
        "norm2": g * (c / two).clamp(max=1),
        "norm_inf": g * (c / largest_channel).clamp(max=1),
        "soft": g * c / (two + c),
        "global": g * (c / largest).clamp(max=1),
        "adaptive": g * (c * rms / two).clamp(max=1),
        "normalized": g * c / largest,
    }
    assert expected.keys() == set(POLICIES)
    for policy in POLICIES:
        torch.testing.assert_close(clip_gradient(g, policy, c), expected[policy])
        assert not torch.equal(expected[policy], g)


@pytest.mark.parametrize("policy", BY_NORM)
def test_norm_policies_keep_the_direction_of_every_pixel(policy: Policy):
    g = spiky()
    clipped = clip_gradient(g, policy, 0.05)
    cosine = torch.cosine_similarity(g.double(), clipped.double(), dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    turned = torch.cosine_similarity(g, clip_gradient(g, "value", 0.05), dim=-1)
    assert turned.min() < 0.99, "clipping by value turns it"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-30, 3e38])
def test_zero_tiny_and_huge_gradients_stay_finite(policy: Policy, value: float):
    g = torch.zeros(2, 3, 3, 3)
    g[0, 1, 1] = torch.tensor([value, -value, 0.0])
    clipped = clip_gradient(g, policy, 0.1)
    assert clipped.isfinite().all()
    assert torch.equal(clipped[1], torch.zeros(3, 3, 3)), "a view without gradient gets none"
    if value < 1e-20 and policy in ("value", "norm2", "norm_inf", "global"):
        assert torch.equal(clipped, g)
    if policy == "adaptive":
        assert clipped.abs().max() <= value


@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "normalized"])
def test_an_infinite_threshold_changes_no_bit(policy: Policy):
    g = spiky()
    assert torch.equal(clip_gradient(g, policy, math.inf), g)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_and_spoils_no_other_pixel(policy: Policy, bad: float):
    g = spiky()
    broken = g.clone()
    broken[1, 2, 3, 1] = bad
    clipped = clip_gradient(broken, policy, 0.1)
    expected = g.clone()
    expected[1, 2, 3] = 0.0  # counts for nobody's rms or maximum
    expected = clip_gradient(expected, policy, 0.1)
    assert torch.equal(clipped[1, 2, 3, 1].isfinite(), torch.tensor(False))
    mask = torch.ones(3, 5, 7, dtype=torch.bool)
    mask[1, 2, 3] = False
    torch.testing.assert_close(clipped[mask], expected[mask])


@pytest.mark.parametrize("policy", POLICIES)
def test_half_precision_gradients_keep_their_type(policy: Policy):
    g = spiky().half()
    clipped = clip_gradient(g, policy, 0.1)
    assert clipped.dtype == torch.float16 and clipped.isfinite().all()


def arriving(
    config: PixelGradientConfig | None, g: torch.Tensor, loss_scale: float = 1.0
) -> tuple[torch.Tensor, dict[str, float]]:
    """Send per-view gradients through a guarded render as a loss that is a mean over views."""
    rgb = torch.rand(g.shape, generator=seeded(3), dtype=g.dtype).requires_grad_(True)
    pixels = PixelGradients(config, 0.0, loss_scale=loss_scale)
    shown = pixels.guard(as_render(rgb))
    ((shown.rgb * g).sum() / len(g) * loss_scale).backward()
    assert rgb.grad is not None
    return rgb.grad, pixels.metrics


@pytest.mark.parametrize("policy", POLICIES)
def test_a_views_clipped_gradient_does_not_depend_on_its_company(policy: Policy):
    config, g = PixelGradientConfig(policy=policy, rgb=0.2), spiky(4)
    together, _ = arriving(config, g)
    for i in range(4):
        alone, _ = arriving(config, g[i : i + 1])
        torch.testing.assert_close(4 * together[i], alone[0])
    direct = clip_gradient(g, policy, 0.2)
    torch.testing.assert_close(4 * together, direct)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_threshold_is_that_of_the_unscaled_gradient(policy: Policy):
    config, g = PixelGradientConfig(policy=policy, rgb=0.2), spiky()
    plain, metrics = arriving(config, g)
    scaled, scaled_metrics = arriving(config, g, loss_scale=65536.0)
    torch.testing.assert_close(scaled / 65536.0, plain)
    assert scaled_metrics == pytest.approx(metrics, rel=1e-5)


def test_with_a_size_more_pixels_are_clipped_alike():
    g = spiky(2)
    fine = g.repeat_interleave(4, 1).repeat_interleave(4, 2) / 16  # the same sum over an area
    fixed = PixelGradientConfig(rgb=0.2, size=6)
    coarse, metrics = arriving(fixed, g)
    shown, fine_metrics = arriving(fixed, fine)
    total = shown.unflatten(2, (7, 4)).unflatten(1, (5, 4)).sum(dim=(2, 4))
    torch.testing.assert_close(total, coarse)
    assert fine_metrics == pytest.approx(metrics, rel=1e-5)
    own = PixelGradientConfig(rgb=0.2)
    assert arriving(own, fine)[1]["rgb_clipped"] < arriving(own, g)[1]["rgb_clipped"]


def test_metrics_tell_what_was_clipped_in_units_of_the_threshold():
    g = torch.zeros(2, 10, 10, 3)
    g[..., 0] = torch.arange(200.0).reshape(2, 10, 10) + 1
    _, metrics = arriving(PixelGradientConfig(rgb=150.0), g)
    assert metrics == pytest.approx(
        {
            "rgb_clipped": 0.25,
            "rgb_gradient_p50": 100.0,
            "rgb_gradient_p99": 198.0,
            "rgb_gradient_max": 200.0,
        },
        rel=1e-5,
    )
    _, metrics = arriving(PixelGradientConfig(policy="value", rgb=150.0), g)
    assert metrics["rgb_clipped"] == pytest.approx(0.25 / 3), "of channels"
    _, metrics = arriving(PixelGradientConfig(), torch.full((1, 2, 2, 3), math.nan))
    assert math.isnan(metrics["rgb_gradient_max"]) and metrics["rgb_clipped"] == 0.0


def test_percentiles_are_nearest_ranks_of_what_is_finite():
    size = torch.tensor([3.0, 1.0, math.inf, 2.0, math.nan])
    assert {k: float(v) for k, v in percentiles(size).items()} == {"p50": 2, "p99": 3, "max": 3}


def test_each_picture_has_its_own_threshold_and_other_users_of_the_render_none():
    g = spiky()
    rgb, normal = (torch.rand(g.shape, generator=seeded(3)).requires_grad_(True) for _ in range(2))
    depth = torch.rand(3, 5, 7, 1, generator=seeded(4)).requires_grad_(True)
    render = Render(rgb=rgb, alpha=depth.detach(), depth=depth, normal=normal)
    pixels = PixelGradients(PixelGradientConfig(rgb=None, normal=0.1, depth=0.01), 0.0)
    shown = pixels.guard(render)
    assert torch.equal(shown.rgb, rgb) and shown.alpha is render.alpha
    loss = (shown.rgb * g + shown.normal * g + shown.depth * g).sum() / 3
    (loss + (render.normal * g).sum() / 3).backward()  # a regulariser sees the render itself
    assert rgb.grad is not None and normal.grad is not None and depth.grad is not None
    torch.testing.assert_close(3 * rgb.grad, g)
    torch.testing.assert_close(3 * normal.grad, clip_gradient(g, "norm2", 0.1) + g)
    of_depth = g.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(3 * depth.grad, clip_gradient(of_depth, "norm2", 0.01))
    assert {name.partition("_")[0] for name in pixels.metrics} == {"normal", "depth"}


def test_colours_without_light_have_the_threshold_of_colours_each_picture_by_itself():
    g = spiky(1)
    rgb, albedo = (torch.rand(g.shape, generator=seeded(3)).requires_grad_(True) for _ in range(2))
    pixels = PixelGradients(PixelGradientConfig(rgb=0.1), 0.0)
    shown = pixels.guard(replace(as_render(rgb), albedo=albedo))
    assert shown.albedo is not None
    (shown.rgb * g - 2 * shown.albedo * g).sum().backward()
    assert rgb.grad is not None and albedo.grad is not None
    torch.testing.assert_close(rgb.grad, clip_gradient(g, "norm2", 0.1))
    torch.testing.assert_close(albedo.grad, clip_gradient(-2 * g, "norm2", 0.1))
    assert {name.partition("_")[0] for name in pixels.metrics} == {"rgb", "albedo"}


def test_a_picture_that_is_used_twice_is_clipped_once_and_the_threshold_may_move():
    g = spiky(1)
    rgb = torch.rand(g.shape).requires_grad_(True)
    config = PixelGradientConfig(rgb=Schedule(0.1, 0.3))
    shown = PixelGradients(config, 0.5).guard(as_render(rgb))
    ((shown.rgb * g).sum() + 2 * (shown.rgb * g).sum()).backward()
    assert rgb.grad is not None
    torch.testing.assert_close(rgb.grad, clip_gradient(3 * g, "norm2", 0.2))


def test_without_settings_or_gradients_the_render_is_passed_on():
    render = as_render(torch.rand(1, 4, 4, 3, requires_grad=True))
    assert PixelGradients(None, 0.0).guard(render) is render
    still = as_render(torch.rand(1, 4, 4, 3))
    assert PixelGradients(PixelGradientConfig(), 0.0).guard(still).rgb is still.rgb


@pytest.mark.parametrize(
    "settings",
    [{"rgb": 0.0}, {"normal": -1.0}, {"depth": {"from": 1.0, "to": 0.0}}, {"size": 0}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        build_config(PixelGradientConfig, settings)
    with pytest.raises(ValueError, match="finite"):
        PixelGradientConfig(policy="normalized", rgb=math.inf)


class Spiky(GaussianPrior):
    """Its encoder amplifies one pixel a thousand times, as a trained one may."""

    def encode_image(self, images, generator):
        gain = torch.ones(1, 1, self.image_size, self.image_size)
        gain[..., 2, 5] = 1000.0
        latents = super().encode_image(images, generator)
        return latents.detach() + gain * (latents - latents.detach())


def sds(prior: GaussianPrior):
    config = Config(guidance_scale=1.0, timesteps=TimestepConfig(t_min=0.3, t_max=0.7))
    return build(config, prior, Prompts.encode(prior, "cat", "", PromptConfig(view="none")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", ["value", "norm2", "norm_inf", "soft"])
def test_around_sds_the_gradient_is_the_clipped_formula(kind: str, policy: Policy):
    rule = sds(GaussianPrior(lambda _: MEAN, std=0.2, parametrisation=kind))
    rgb = torch.rand(3, 8, 8, 3, generator=seeded(9)).requires_grad_(True)
    cameras = cameras_at([0, 90, 180])
    free = torch.autograd.grad(rule(as_render(rgb), cameras, 0.5, seeded(1)).loss, rgb)[0]
    limit = float(3 * free.norm(dim=-1).median())
    pixels = PixelGradients(PixelGradientConfig(policy=policy, rgb=limit), 0.5)
    loss = rule(pixels.guard(as_render(rgb)), cameras, 0.5, seeded(1)).loss
    found = torch.autograd.grad(loss, rgb)[0]
    assert 0.1 < pixels.metrics["rgb_clipped"] < 0.9
    torch.testing.assert_close(3 * found, clip_gradient(3 * free, policy, limit))


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
def test_descent_through_a_spiky_encoder_finds_the_mean_with_pgc_and_fails_without(kind: str):
    def distance(config: PixelGradientConfig | None, steps: int) -> float:
        rule = sds(Spiky(lambda _: MEAN, std=0.2, parametrisation=kind))
        pixels = torch.full((2, 8, 8, 3), 0.5).requires_grad_(True)
        optimizer = torch.optim.SGD([pixels], lr=0.25)
        average = torch.zeros(8, 8, 3)
        for step in range(steps):
            optimizer.zero_grad()
            shown = PixelGradients(config, 0.0).guard(as_render(pixels))
            rule(shown, cameras_at([0, 0]), 0.0, seeded(step)).loss.backward()
            optimizer.step()
            if step >= steps // 2:
                average += (pixels.detach().mean(0) * 2 - 1) / (steps - steps // 2)
        return float((average - torch.tensor(MEAN)).norm(dim=-1).nan_to_num(1e9).max())

    assert distance(PixelGradientConfig(rgb=0.4), steps=40) < 0.2
    assert distance(None, steps=10) > 10.0
