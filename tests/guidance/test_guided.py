"""Guidance, rescaling and Perp-Neg on top of scores that are known exactly."""

import pytest
import torch
from analytic import GaussianPrior, exact_eps
from guided_views import cameras_at

from dreamlab.guidance.guided import composed_noise, guided_noise, project, rescale
from dreamlab.guidance.perp_neg import away_direction
from dreamlab.guidance.prompts import PromptConfig, Prompts


def mean(prompt: str) -> list[float]:
    generator = torch.Generator().manual_seed(sum(map(ord, prompt)))
    return (torch.rand(3, generator=generator) * 2 - 1).tolist()


def setting(view: str, num_views: int = 3):
    prior = GaussianPrior(mean=mean)
    prompts = Prompts.encode(prior, "cat", "ugly", PromptConfig(view=view))  # type: ignore[arg-type]
    prior.calls.clear()
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(num_views, 3, 8, 8, generator=generator)
    t = torch.linspace(0.2, 0.8, num_views)
    conditionings = prompts.for_views(cameras_at(torch.linspace(-170, 150, num_views).tolist()))
    return prior, noisy, t, conditionings


def score(prior: GaussianPrior, noisy, t, embedding) -> torch.Tensor:
    alpha, sigma = prior.alpha_sigma(t)
    return exact_eps(noisy, alpha, sigma, embedding[:, 0, :, None, None], prior.std)


@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5, 100.0])
def test_guidance_is_in_the_diffusers_convention_with_the_negative_prompt_as_base(scale: float):
    prior, noisy, t, c = setting("words")
    e_y, e_0 = score(prior, noisy, t, c.positive[:, 0]), score(prior, noisy, t, c.negative[:, 0])
    found = guided_noise(prior, noisy, t, c, scale=scale)
    torch.testing.assert_close(found, e_0 + scale * (e_y - e_0), rtol=1e-4, atol=1e-4)
    assert prior.calls == [("predict", 6)]


def test_perp_neg_adds_the_weighted_perpendicular_parts_scaled_by_s():
    prior, noisy, t, c = setting("perp_neg")
    e_y, e_0 = score(prior, noisy, t, c.positive[:, 0]), score(prior, noisy, t, c.negative[:, 0])
    away = torch.stack([score(prior, noisy, t, c.away[:, j]) for j in range(2)], dim=1)
    sideways = away_direction(e_y, e_0, away, c.away_weights)
    found = guided_noise(prior, noisy, t, c, scale=7.5)
    torch.testing.assert_close(found, e_0 + 7.5 * (e_y - e_0 + sideways), rtol=1e-4, atol=1e-4)
    assert sideways.abs().max() > 0.01
    assert prior.calls == [("predict", 12)]


@pytest.mark.parametrize("view", ["words", "perp_neg"])
@pytest.mark.parametrize("kept", [0.0, 0.4])
def test_projection_keeps_a_share_of_what_guidance_adds_along_the_clean_latents(
    kept: float, view: str
):
    prior, noisy, t, c = setting(view)
    alpha, sigma = prior.alpha_sigma(t)
    e_y = score(prior, noisy, t, c.positive[:, 0])
    x0 = (noisy - sigma * e_y) / alpha
    added = guided_noise(prior, noisy, t, c, scale=20.0) - e_y
    found = guided_noise(prior, noisy, t, c, scale=20.0, parallel=kept) - e_y
    for view_added, view_found, view_x0 in zip(added, found, x0, strict=True):
        for d, f, x in zip(view_added, view_found, view_x0, strict=True):
            along = (d * x).sum() / (x * x).sum() * x
            torch.testing.assert_close(f, d - along + kept * along, rtol=1e-4, atol=1e-4)
            assert along.abs().max() > 0.1
    whole = guided_noise(prior, noisy, t, c, scale=20.0, parallel=1.0)
    assert torch.equal(whole, guided_noise(prior, noisy, t, c, scale=20.0))


def test_projection_of_a_view_of_nothing_changes_nothing():
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(project(noise, noise + 1, torch.zeros_like(noise), 0.0), noise)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_rescaling_brings_each_views_spread_to_that_of_the_plain_prediction(strength: float):
    prior, noisy, t, c = setting("words")
    e_y = score(prior, noisy, t, c.positive[:, 0])
    plain = guided_noise(prior, noisy, t, c, scale=50.0)
    found = guided_noise(prior, noisy, t, c, scale=50.0, cfg_rescale=strength)
    for i in range(3):
        factor = strength * e_y[i].std() / plain[i].std() + (1 - strength)
        torch.testing.assert_close(found[i], factor * plain[i])
        if strength == 1.0:
            torch.testing.assert_close(found[i].std(), e_y[i].std())


def test_rescaling_by_nothing_is_identity():
    values = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rescale(values, 3 * values, 0.0), values)


def test_a_composition_is_its_sum_and_asks_for_no_more_than_it_needs():
    prior, noisy, t, c = setting("perp_neg")
    e_y, e_0, e_neg = (
        score(prior, noisy, t, group[:, 0]) for group in (c.positive, c.empty, c.negative)
    )
    away = torch.stack([score(prior, noisy, t, c.away[:, j]) for j in range(2)], dim=1)
    push = away_direction(e_y, e_0, away, c.away_weights)
    per_view = torch.tensor([0.0, 1.0, 2.0])[:, None, None, None]
    for coefficients, expected, rows in (
        (
            {"positive": 2.0, "empty": -1.0, "negative": per_view},
            2 * (e_y + push) - e_0 + per_view * e_neg,
            15,
        ),
        ({"positive": 2.0, "empty": -1.0, "negative": 0.0}, 2 * (e_y + push) - e_0, 12),
        ({"positive": 1.0}, e_y, 3),
        ({"empty": 1.0, "negative": -1.0}, e_0 - e_neg, 6),
    ):
        prior.calls.clear()
        found = composed_noise(prior, noisy, t, c, coefficients)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert prior.calls == [("predict", rows)]
