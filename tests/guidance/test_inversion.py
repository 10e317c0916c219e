"""Claims about DDIM inversion: it reaches t, leads back, and is the flow of a Gaussian."""

import pytest
import torch
from rules import MEANS, STD, gaussian
from torch import Tensor

from dreamlab.guidance.inversion import FIRST, ddim_step, invert, ladder

KINDS = ["epsilon", "v_prediction", "sample", "flow"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_every_view_has_its_own_ladder():
    t = torch.tensor([0.0005, 0.15, 0.2, 0.6])
    times = torch.stack(ladder(t, 0.2))
    expected = [
        [0.0005, 0.0005, 0.0005, 0.0005],
        [FIRST, 0.15, 0.15, 0.15],
        [FIRST, 0.2, 0.2, 0.2],
        [FIRST, 0.2, 0.4, 0.6],
    ]
    torch.testing.assert_close(times, torch.tensor(expected).T)
    assert torch.equal(times[-1], t)


@pytest.mark.parametrize("kind", KINDS)
def test_many_steps_follow_the_flow_of_a_gaussian(kind: str):
    """(z_t - alpha mu) / sqrt(V) does not change along it."""
    prior, z = gaussian(kind), random(2, 3, 2, 2)
    mu = torch.tensor(MEANS["cat"])[:, None, None]
    cat = prior.encode_text(["cat", "cat"])
    t = torch.tensor([0.5, 0.9])
    found = invert(prior, z, ladder(t, 0.01), lambda noisy, now: prior.predict(noisy, now, cat).eps)
    alpha, sigma = prior.alpha_sigma(t)
    expected = alpha * mu + (alpha**2 * STD**2 + sigma**2).sqrt() / STD * (z - mu)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_up_and_the_same_line_down_again_is_where_it_began(kind: str):
    prior, noisy, eps = gaussian(kind), random(2, 3, 2, 2), random(2, 3, 2, 2, seed=1)
    low, high = torch.tensor([0.1, 0.4]), torch.tensor([0.7, 0.9])
    up = ddim_step(prior, noisy, eps, low, high)
    torch.testing.assert_close(ddim_step(prior, up, eps, high, low), noisy, rtol=1e-4, atol=1e-4)


def test_noise_of_the_posterior_keeps_the_variance_of_a_line_through_the_truth():
    """With the true noise as prediction, eta adds variance v to sigma'^2: in all sigma'^2 + v."""
    prior = gaussian()
    count = 40_000
    now, after = torch.full((count,), 0.3), torch.full((count,), 0.6)
    eps, zeta = random(count, 1, 1, 1), random(count, 1, 1, 1, 1, seed=1)
    alpha, sigma = (float(x[0]) for x in prior.alpha_sigma(now))
    later_alpha, later_sigma = (float(x[0]) for x in prior.alpha_sigma(after))
    start = alpha * 0.5 + sigma * eps
    found = invert(prior, start, [now, after], lambda *_: eps, eta=0.8, zeta=zeta)
    variance = (sigma / later_sigma) ** 2 * (
        1 - (later_alpha / alpha) ** 2
    )  # for alpha^2 + sigma^2 = 1
    assert float(found.mean()) == pytest.approx(later_alpha * 0.5, abs=0.02)
    expected = later_sigma**2 + 0.64 * variance
    assert float(found.var()) == pytest.approx(expected, rel=0.03)


def test_a_view_that_has_arrived_is_left_exactly_as_it_is():
    prior, z = gaussian(), random(2, 3, 2, 2)
    t = torch.tensor([0.1, 0.9])
    cat = prior.encode_text(["cat", "cat"])
    predict = lambda noisy, now: prior.predict(noisy, now, cat[: len(noisy)]).eps  # noqa: E731
    together = invert(prior, z, ladder(t, 0.1), predict)
    alone = invert(prior, z[:1], ladder(t[:1], 0.1), predict)
    assert torch.equal(together[0], alone[0])
