"""Claims about sums of rules: the gradient, what each rule draws, where it is clipped, latents."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from analytic import GaussianPrior
from guided_views import as_render, cameras_at
from rules import CASES, MEANS, STD, Scene
from torch import Tensor

from dreamlab.core.render import Render
from dreamlab.guidance.base import Guidance, needs_albedo, needs_normals, views_together
from dreamlab.guidance.encoder_gradient import optimized_latents, with_latents
from dreamlab.guidance.pgc import PixelGradientConfig, PixelGradients, clip_gradient
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.sum import Config, Sum, generators, rules_of
from dreamlab.priors.base import Prior
from dreamlab.systems.components import find

VIEWS, SIDE = 3, 4
CAMERAS = cameras_at([10.0, -60.0, 150.0])
TIMES = {"t_min": 0.15, "t_max": 0.8}
COLORS = {"name": "sds", "guidance_scale": 5.0, "timesteps": TIMES, "latent_weight": 0.5}
NORMALS = {"name": "csd", "sees": "normal", "scale": 3.0, "negative_share": 0.25}
NORMALS |= {"timesteps": TIMES, "latent_weight": 2.0}


def gaussian() -> GaussianPrior:
    return GaussianPrior(MEANS.__getitem__, std=STD, image_size=SIDE)


def rule_of(settings: dict[str, Any], prior: Prior) -> Guidance:
    found = find("guidance", settings)
    return found.module.build(
        found.config, prior, Prompts.encode(prior, "cat", "ugly", PromptConfig(view="none"))
    )


def sum_of(prior: Prior, **rules: dict[str, Any]) -> Sum:
    return Sum({name: rule_of(settings, prior) for name, settings in rules.items()}, prior)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shown() -> Render:
    """Random colours, opacities and normals, with a gradient."""
    rgb, normal = torch.rand(2, VIEWS, SIDE, SIDE, 3, generator=seeded(5))
    alpha = torch.rand(VIEWS, SIDE, SIDE, 1, generator=seeded(6))
    render = as_render(rgb.requires_grad_(True))
    return replace(
        render, alpha=alpha.requires_grad_(True), normal=(2 * normal - 1).requires_grad_(True)
    )


def gradients(rule: Guidance, render: Render, generator: torch.Generator) -> list[Tensor]:
    """To colours, normals and opacity; zero where there is none."""
    loss = rule(render, CAMERAS, 0.5, generator).loss
    assert render.normal is not None
    wanted = [render.rgb, render.normal, render.alpha]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True)]


def expected_gradient(case: str, picture: Tensor, generator: torch.Generator) -> Tensor:
    """By the formula, of the case's rule to a picture of values in [0, 1]; z = 2 x - 1."""
    t = 0.15 + 0.65 * torch.rand(VIEWS, generator=generator)
    noise = torch.randn(VIEWS, 3, SIDE, SIDE, generator=generator)
    z = 2 * picture.detach().permute(0, 3, 1, 2) - 1
    g = CASES[case].formula(Scene(gaussian()), z, t, noise, None)
    return 2 * g.permute(0, 2, 3, 1) / VIEWS


def test_the_gradient_is_the_weighted_sum_of_the_rules_formulas_each_on_what_it_sees():
    render = shown()
    assert render.normal is not None
    found = gradients(sum_of(gaussian(), colors=COLORS, normals=NORMALS), render, seeded())
    first, second = generators(seeded(), 2)
    of_rgb = 0.5 * expected_gradient("sds", render.rgb, first)
    of_picture = 2.0 * expected_gradient("csd", (render.normal + render.alpha) / 2, second)
    of_alpha = of_picture.sum(dim=-1, keepdim=True) / 2
    for got, wanted in zip(found, (of_rgb, of_picture / 2, of_alpha), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)
        assert wanted.abs().max() > 0.01


def test_rules_that_look_at_the_same_picture_are_added():
    render, prior = shown(), gaussian()
    other = NORMALS | {"sees": "rgb"}
    first, second = generators(seeded(), 2)
    alone = gradients(rule_of(COLORS, prior), render, first)[0]
    alone = alone + gradients(rule_of(other, prior), render, second)[0]
    found = gradients(sum_of(prior, a=COLORS, b=other), render, seeded())[0]
    torch.testing.assert_close(found, alone)


@pytest.mark.parametrize(
    "settings",
    [COLORS, NORMALS, COLORS | {"image_weight": 0.3}, {"name": "sdedit"}],
    ids=["colours", "normals", "both losses", "sdedit"],
)
def test_a_rule_alone_in_a_sum_has_its_own_loss_and_gradient_bit_by_bit(settings: dict[str, Any]):
    prior, render = gaussian(), shown()
    rule, total = rule_of(settings, prior), sum_of(prior, only=settings)
    pairs = zip(gradients(rule, render, seeded()), gradients(total, render, seeded()), strict=True)
    assert all(torch.equal(alone, summed) for alone, summed in pairs)
    alone, summed = (each(render, CAMERAS, 0.5, seeded()) for each in (rule, total))
    assert torch.equal(alone.loss, summed.loss)
    assert summed.metrics == {f"only.{name}": value for name, value in alone.metrics.items()}


def test_what_a_rule_draws_is_its_own_and_does_not_depend_on_what_others_draw():
    prior, render = gaussian(), shown()
    deep = {"name": "sdi", "guidance_scale": 5.0}  # which draws more than others
    twins = sum_of(prior, a=COLORS, b=COLORS)(render, CAMERAS, 0.5, seeded()).metrics
    changed = sum_of(prior, a=deep, b=COLORS)(render, CAMERAS, 0.5, seeded()).metrics
    assert twins["a.t"] != twins["b.t"] == changed["b.t"]
    assert twins["b.gradient_rms"] == changed["b.gradient_rms"]
    draws = {float(torch.rand((), generator=each)) for each in generators(seeded(), 5)}
    assert len(draws) == 5


def test_each_picture_is_clipped_at_its_own_threshold_after_the_rules_were_added():
    prior, plain = gaussian(), shown()
    assert plain.normal is not None
    rules = {"a": COLORS, "b": COLORS | {"guidance_scale": 20.0}, "normals": NORMALS}
    total = sum_of(prior, **rules)
    whole = gradients(total, plain, seeded())
    config = PixelGradientConfig(policy="norm_inf", rgb=0.5, normal=0.2)
    pixels = PixelGradients(config, 0.5)
    loss = total(pixels.guard(plain), CAMERAS, 0.5, seeded()).loss
    found = torch.autograd.grad(loss, (plain.rgb, plain.normal))
    for got, before, limit in zip(found, whole, (0.5, 0.2), strict=False):
        wanted = clip_gradient(before, "norm_inf", limit / VIEWS)
        torch.testing.assert_close(got, wanted)
        assert not torch.equal(wanted, before)
    assert {"rgb_clipped", "normal_clipped"} <= pixels.metrics.keys()


def test_latents_that_are_optimised_get_the_gradients_of_all_rules():
    """From their own loss and, through the decoder, from that of the pictures."""
    latents = torch.rand(1, 3, SIDE, SIDE, generator=seeded(7)).requires_grad_(True)
    prior = with_latents(gaussian(), lambda: latents)
    assert optimized_latents(prior) is latents and optimized_latents(gaussian()) is None
    both = COLORS | {"image_weight": 0.3}

    def gradient(rule: Guidance, generator: torch.Generator) -> Tensor:
        rgb = prior.decode(latents).expand(VIEWS, -1, -1, -1)
        return torch.autograd.grad(rule(as_render(rgb), CAMERAS, 0.5, generator).loss, latents)[0]

    csd = NORMALS | {"sees": "rgb"}
    expected = [
        gradient(rule_of(settings, prior), own)
        for settings, own in zip((both, csd), generators(seeded(), 2), strict=True)
    ]
    found = gradient(sum_of(prior, a=both, b=csd), seeded())
    torch.testing.assert_close(found, expected[0] + expected[1])
    assert torch.equal(gradient(sum_of(prior, a=both), seeded()), expected[0])


def test_a_gradient_that_is_not_finite_makes_the_loss_so():
    prior, render = gaussian(), shown()
    broken = replace(render, rgb=torch.full_like(render.rgb, torch.inf).requires_grad_(True))
    total = sum_of(prior, normals=NORMALS, colors=COLORS)
    output = total(broken, CAMERAS, 0.5, seeded())
    assert not output.loss.isfinite() and output.metrics["colors.nonfinite_fraction"] > 0
    assert output.metrics["normals.nonfinite_fraction"] == 0


def test_without_gradient_it_is_judged_all_the_same():
    total = sum_of(gaussian(), colors=COLORS, normals=NORMALS)
    loss = total(shown(), CAMERAS, 0.5, seeded()).loss.detach()
    with torch.no_grad():
        assert torch.equal(total(shown(), CAMERAS, 0.5, seeded()).loss, loss)


def test_normals_are_needed_if_any_rule_needs_them_and_views_are_judged_as_the_prior_does():
    prior = gaussian()
    assert needs_normals(sum_of(prior, colors=COLORS, normals=NORMALS))
    assert not needs_normals(sum_of(prior, colors=COLORS))
    assert views_together(sum_of(prior, colors=COLORS), 2) == 1


def test_colours_without_light_are_needed_if_any_rule_looks_at_them():
    of_albedo = COLORS | {"sees": "albedo"}
    assert needs_albedo(sum_of(gaussian(), a=COLORS, b=of_albedo))
    assert not needs_albedo(sum_of(gaussian(), a=COLORS)) and not needs_albedo(None)


def test_the_single_rules_of_a_guidance_are_found_by_name():
    rule, total = rule_of(COLORS, gaussian()), sum_of(gaussian(), a=COLORS, b=NORMALS)
    assert rules_of(rule) == {"": rule} and rules_of(total) == total.rules and rules_of(None) == {}


def test_a_sum_has_rules_and_their_names_are_words():
    with pytest.raises(ValueError, match="at least one"):
        Sum({}, gaussian())
    for name in ("", "a.b", "2", "two words"):
        with pytest.raises(ValueError, match="must be a word"):
            Config({name: COLORS})
