"""The shared driver: rows in the right order, one call, one normalisation, nothing hidden."""

import math

import pytest
import torch
from analytic import GaussianPrior, exact_eps

from dreamlab.guidance.base import (
    clip_values,
    compose,
    distillation_loss,
    gradient_metrics,
    predict_scores,
)


def seeded(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("num_views", [1, 2, 3, 5])
def test_every_view_meets_its_own_conditionings_in_one_call(num_views: int):
    prior = GaussianPrior(mean=lambda _: [0, 0, 0])
    noisy, t = seeded(num_views, 3, 8, 8), torch.linspace(0.2, 0.8, num_views)
    groups = {
        "one": seeded(num_views, 1, 1, 3),
        "none": seeded(num_views, 0, 1, 3),
        "two": 2 * seeded(num_views, 2, 1, 3),
    }
    scores = predict_scores(prior, noisy, t, groups)
    assert prior.calls == [("predict", 3 * num_views)]
    assert {name: score.shape[1] for name, score in scores.items()} == {
        "one": 1,
        "none": 0,
        "two": 2,
    }
    for name, conditioning in groups.items():
        for i in range(num_views):
            alpha, sigma = prior.alpha_sigma(t[i : i + 1])
            for j in range(conditioning.shape[1]):
                mu = conditioning[i, j, 0][None, :, None, None]
                expected = exact_eps(noisy[i : i + 1], alpha, sigma, mu, prior.std)[0]
                torch.testing.assert_close(scores[name][i, j], expected)


def test_composition_is_the_linear_combination():
    scores = {
        "a": seeded(2, 1, 3, 4, 4),
        "b": seeded(2, 1, 3, 4, 4) + 1,
        "c": seeded(2, 1, 3, 4, 4),
    }
    mixed = compose(scores, {"a": 7.5, "b": -6.5})
    torch.testing.assert_close(mixed, 7.5 * scores["a"][:, 0] - 6.5 * scores["b"][:, 0])


@pytest.mark.parametrize("num_views", [1, 4])
def test_the_loss_hands_over_the_gradient_divided_by_the_number_of_views(num_views: int):
    values = seeded(num_views, 4, 3, 3).double().requires_grad_(True)
    gradient = seeded(num_views, 4, 3, 3).double() * 3
    loss = distillation_loss(values, gradient)
    torch.testing.assert_close(loss, 0.5 * gradient.square().sum() / num_views)
    (found,) = torch.autograd.grad(loss, values)
    torch.testing.assert_close(found, gradient / num_views)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_shows_in_loss_and_metrics_even_when_clipped(bad: float):
    gradient = torch.ones(2, 4, 5, 5)
    gradient[0, 0, 0, 0] = bad
    clipped = clip_values(gradient, 0.5)
    assert clipped[1].max() == 0.5 and not clipped[0, 0, 0, 0].isfinite()
    assert not distillation_loss(torch.zeros(2, 4, 5, 5), clipped).isfinite()
    metrics = gradient_metrics(gradient)
    assert metrics["nonfinite_fraction"] == pytest.approx(1 / 200, rel=1e-4)
    assert metrics["gradient_rms"] == pytest.approx(1.0)


def test_metrics_of_a_sound_gradient():
    metrics = gradient_metrics(torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1))
    assert metrics == {"gradient_rms": pytest.approx(12.5**0.5), "nonfinite_fraction": 0.0}
