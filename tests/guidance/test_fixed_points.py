"""Where the rules stop, on a prior that is a Gaussian N(mu, s^2) a prompt, in closed form.

V = alpha^2 s^2 + sigma^2 and c = alpha sigma / V at time t. The score is affine in the noise, so
the mean over eps and -eps is the expectation, exactly. Guidance by k makes the Gaussian of the
prompt one at m = mu_0 + k (mu_y - mu_0).
"""

from itertools import pairwise

import pytest
import torch
from analytic import GaussianPrior
from guided_views import cameras_at
from rules import MEANS, STD, gaussian
from torch import Tensor

from dreamlab.guidance.csd import CSD
from dreamlab.guidance.csd import Config as CSDConfig
from dreamlab.guidance.inversion import ladder
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.rule import Rule
from dreamlab.priors.base import Prediction, from_epsilon
from dreamlab.systems.components import find

KINDS = ["epsilon", "v_prediction", "sample", "flow"]
MU, EMPTY, UGLY = (torch.tensor(MEANS[prompt]) for prompt in ("cat", "", "ugly"))


def make(name: str, prior: GaussianPrior, negative: str = "", **options) -> Rule:
    found = find("guidance", {"name": name, **options})
    prompts = Prompts.encode(prior, "cat", negative, PromptConfig(view="none"))
    return found.module.build(found.config, prior, prompts)


def expected_gradient(
    rule: Rule, color: Tensor, t: float, extra: float | None = None, side: int = 2
) -> Tensor:
    """The rule's gradient on a plain picture, in the mean over the noise: a colour."""
    z = color[:, None, None].expand(1, 3, side, side)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    z, noise = torch.cat([z, z]), torch.cat([noise, -noise])
    more = rule.draw_extra(noise, torch.Generator().manual_seed(0))
    if more is not None:
        more = torch.full_like(more, extra or 0.0)
    conditionings = rule.prompts.for_views(cameras_at([0.0, 0.0]))
    found = rule.judge(z, torch.full((2,), t), noise, conditionings, 0.0, more)
    return found.gradient.mean(dim=(0, 2, 3))


def coefficients(prior: GaussianPrior, t: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """alpha, sigma, V, c."""
    alpha, sigma = (x.flatten() for x in prior.alpha_sigma(torch.tensor([t])))
    variance = alpha**2 * STD**2 + sigma**2
    return alpha, sigma, variance, alpha * sigma / variance


def is_attracting(rule: Rule, point: Tensor, t: float, extra: float | None = None) -> bool:
    """Whether g is zero at the point and leads back to it from both sides."""
    up, at, down = (expected_gradient(rule, point + d, t, extra) for d in (0.1, 0.0, -0.1))
    slope = (up - down) / 0.2
    return bool((slope > 0).all() and (at.abs() < 2e-3 * slope).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "options"), [("sds", {}), ("sds", {"weighting": "flow"})])
def test_sds_and_rfds_stop_at_the_guided_mean(kind: str, name: str, options: dict):
    prior = gaussian(kind)
    for scale in (1.0, 4.0):
        rule = make(name, prior, "ugly", guidance_scale=scale, **options)
        for t in (0.1, 0.8):
            assert is_attracting(rule, UGLY + scale * (MU - UGLY), t)


@pytest.mark.parametrize("kind", KINDS)
def test_projected_guidance_overshoots_the_less_the_more_of_a_plain_picture_is_colour(kind: str):
    """At mu it is k^2 / (mu^2 + k^2) of its push, by channel; k = alpha s^2 sigma / V is how much
    noise the denoised picture keeps."""
    prior = gaussian(kind)
    whole, projected = (
        make("sds", prior, guidance_scale=5.0, parallel=kept) for kept in (1.0, 0.0)
    )
    for t in (0.2, 0.6):
        alpha, sigma, variance, _ = coefficients(prior, t)
        k = alpha * STD**2 * sigma / variance
        found = expected_gradient(projected, MU, t, side=64) / expected_gradient(whole, MU, t)
        torch.testing.assert_close(found, k**2 / (MU**2 + k**2), rtol=0.1, atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_corrected_noise_of_rfds_rev_moves_the_overshoot_further(kind: str):
    """z = mu + (m - mu) V / sigma^2: without guidance the prompt's mean."""
    prior = gaussian(kind)
    for t in (0.5, 0.8):
        _, sigma, variance, _ = coefficients(prior, t)
        for scale in (1.0, 4.0):
            guided = UGLY + scale * (MU - UGLY)
            point = MU + (guided - MU) * variance / sigma**2
            assert is_attracting(make("rfds_rev", prior, "ugly", guidance_scale=scale), point, t)


@pytest.mark.parametrize("kind", KINDS)
def test_asd_stops_where_two_times_agree(kind: str):
    """z = (c m - c' mu) / (c - c'); attracting while the pull is weaker at the later time."""
    prior = gaussian(kind)
    t, u, t_min, shift = 0.7, 0.6, 0.1, 0.2
    c = coefficients(prior, t)[3]
    later = coefficients(prior, t + u * shift * (t - t_min))[3]
    assert c > later
    for scale in (1.0, 2.0):
        guided = UGLY + scale * (MU - UGLY)
        point = (c * guided - later * MU) / (c - later)
        rule = make(
            "asd", prior, "ugly", guidance_scale=scale, shift=shift, timesteps={"t_min": t_min}
        )
        assert is_attracting(rule, point, t, u)


def test_asd_without_a_shift_sees_guidance_alone():
    rule = make("asd", gaussian(), guidance_scale=1.0, shift=0.0)
    assert expected_gradient(rule, MU + 1.0, 0.7, 1.0).abs().max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_sdi_stops_at_the_guided_mean_if_both_ways_are_guided_alike(kind: str):
    options = {"guidance_scale": 5.0, "inversion_scale": 5.0, "inversion_eta": 0.0}
    rule = make("sdi", gaussian(kind), "ugly", **options)
    for t in (0.25, 0.8):
        assert is_attracting(rule, UGLY + 5.0 * (MU - UGLY), t)


@pytest.mark.parametrize(("up", "down"), [(-4.0, 4.0), (0.0, 4.0), (1.0, 1.0)])
def test_sdi_with_many_steps_stops_where_the_flow_says(up: float, down: float):
    """With r = alpha s / sqrt(V), it is as if guided by (1 + r) k_down - r k_up."""
    prior, t = gaussian(), 0.5
    rule = make(
        "sdi",
        prior,
        guidance_scale=down,
        inversion_scale=up,
        inversion_eta=0.0,
        inversion_steps=100,
    )
    alpha, _, variance, _ = coefficients(prior, t)
    r = alpha * STD / variance.sqrt()
    expected = (1 + r) * down - r * up
    direction = MU - EMPTY
    ends = [expected_gradient(rule, EMPTY + k * direction, t) @ direction for k in (0.0, 10.0)]
    assert ends[0] < 0 < ends[1]
    torch.testing.assert_close(10 * ends[0] / (ends[0] - ends[1]), expected[0], rtol=0.02, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_ism_stops_where_the_push_equals_the_change_along_the_interval(kind: str):
    """With q the factor by which inversion steps from z - mu_0 to z_s - alpha_s mu_0:

        e_0(z_s) = (sigma_s / V_s) q (z - mu_0),     g ~ sigma_t / V_t q' (z - mu_0)
                   - sigma_t alpha_t / V_t k (mu_y - mu_0) - e_0(z_s) = 0

    and a step multiplies q by alpha' / alpha + (sigma' - alpha' sigma / alpha) sigma / V.
    """
    prior, interval, stride = gaussian(kind), 0.1, 0.2
    for t in (0.35, 0.8):
        s = t - interval
        alpha, _, _, _ = coefficients(prior, 0.001)
        q, q_before = alpha, alpha
        times = [float(x) for x in ladder(torch.tensor([s]), stride)] + [t]
        for now, after in pairwise(times):
            alpha, sigma, variance, _ = coefficients(prior, now)
            later_alpha, later_sigma, _, _ = coefficients(prior, after)
            q_before = q
            slope = (later_sigma - later_alpha * sigma / alpha) * sigma / variance
            q = q * (later_alpha / alpha + slope)
        _, sigma_s, variance_s, _ = coefficients(prior, s)
        _, sigma_t, variance_t, c = coefficients(prior, t)
        change = sigma_t / variance_t * q - sigma_s / variance_s * q_before
        point = EMPTY + c * 2.0 * (MU - EMPTY) / change
        rule = make("ism", prior, guidance_scale=2.0, interval=interval, stride=stride)
        assert is_attracting(rule, point, t)


@pytest.mark.parametrize("kind", KINDS)
def test_nfsd_stops_at_the_guided_mean_at_low_noise_and_nowhere_above(kind: str):
    prior = gaussian(kind)
    rule = make("nfsd", prior, "ugly", scale=4.0)
    assert is_attracting(rule, EMPTY + 4.0 * (MU - EMPTY), 0.1)
    near, far = (expected_gradient(rule, MU + d, 0.5) for d in (0.0, 3.0))
    _, _, _, c = coefficients(prior, 0.5)
    sigma = coefficients(prior, 0.5)[1]
    expected = sigma**2 * c * (4.0 * (EMPTY - MU) + UGLY - EMPTY)
    torch.testing.assert_close(near, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(far, near, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_csd_pushes_from_the_negative_to_the_prompt_wherever_it_is(kind: str):
    """g = w s c ( (1 - n) mu_0 + n mu_neg - mu_y ): between Gaussians of one width, no end."""
    prior = gaussian(kind)
    _, sigma, _, c = coefficients(prior, 0.4)
    for share in (0.0, 0.3, 1.0):
        rule = make("csd", prior, "ugly", scale=2.0, negative_share=share)
        origin = (1 - share) * EMPTY + share * UGLY
        for distance in (0.0, 2.0):
            found = expected_gradient(rule, MU + distance, 0.4)
            torch.testing.assert_close(
                found, sigma**2 * 2.0 * c * (origin - MU), rtol=1e-3, atol=1e-4
            )


def test_ssd_at_low_noise_is_orthogonal_to_the_noise_and_as_long_as_the_push():
    prior = gaussian()
    rule = make("ssd", prior)
    z, noise = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    conditionings = rule.prompts.for_views(cameras_at([0.0, 0.0]))
    low, high = torch.tensor([0.1, 0.1]), torch.tensor([0.1001, 0.1001])
    steady = rule.judge(z, low, noise, conditionings, 0.0).gradient.flatten(1)
    seeking = rule.judge(z, high, noise, conditionings, 0.0).gradient.flatten(1)
    assert ((steady * noise.flatten(1)).sum(1).abs() < 1e-3 * steady.norm(dim=1)).all()
    torch.testing.assert_close(steady.norm(dim=1), seeking.norm(dim=1), rtol=1e-2, atol=0)


class TwoKinds(GaussianPrior):
    """Pictures are cats or dogs, N(mu_cat, s^2) or N(mu_dog, s^2); the empty prompt is the mixture.

    A prompt's tokens are the means of the Gaussians that it leaves.
    """

    def encode_text(self, prompts: list[str]) -> Tensor:
        cat, dog = [0.4] * 3, [-0.4] * 3
        return torch.tensor([[cat, dog] if prompt == "" else [cat, cat] for prompt in prompts])

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Tensor) -> Prediction:
        alpha, sigma = self.alpha_sigma(t)
        with torch.enable_grad():
            point = noisy.detach().requires_grad_(True)
            log_density = log_mixture(point, alpha, sigma, conditioning, self.std)
            (score,) = torch.autograd.grad(log_density.sum(), point)
        return from_epsilon(-sigma * score, noisy, alpha, sigma)


def log_mixture(noisy: Tensor, alpha: Tensor, sigma: Tensor, means: Tensor, std: float) -> Tensor:
    """log sum_k exp(-|z_t - alpha mu_k|^2 / 2 V) of each view, up to a constant."""
    offset = noisy[:, None] - alpha[:, None] * means[:, :, :, None, None]
    variance = (alpha**2 * std**2 + sigma**2).flatten()
    distance = offset.square().sum(dim=(2, 3, 4)) / (2 * variance[:, None])
    return torch.logsumexp(-distance, dim=1)


def test_csd_is_the_gradient_of_a_classifier_and_rests_when_it_is_sure():
    """s (e_y - e_0) = -s sigma grad log p(cat | z_t), with log p(cat | z_t) by autograd."""
    prior = TwoKinds(mean=lambda _: (), std=0.3)
    prompts = Prompts.encode(prior, "cat", "", PromptConfig(view="none"))
    rule = CSD(CSDConfig(scale=2.0, weighting="uniform"), prior, prompts)
    t = torch.tensor([0.6, 0.6, 0.6])
    z = torch.tensor([-0.4, 0.0, 1.5])[:, None, None, None].expand(3, 3, 2, 2)
    noise = 0.3 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    conditionings = prompts.for_views(cameras_at([0.0] * 3))
    found = rule.judge(z, t, noise, conditionings, 0.0).gradient
    alpha, sigma = prior.alpha_sigma(t)
    point = (alpha * z + sigma * noise).requires_grad_(True)
    both, cat = torch.tensor([[[0.4] * 3, [-0.4] * 3]]), torch.tensor([[[0.4] * 3]])
    log_p = log_mixture(point, alpha, sigma, cat.expand(3, -1, -1), 0.3)
    log_p = log_p - log_mixture(point, alpha, sigma, both.expand(3, -1, -1), 0.3)
    (slope,) = torch.autograd.grad(log_p.sum(), point)
    torch.testing.assert_close(found, -2.0 * sigma * slope, rtol=1e-3, atol=1e-5)
    dog, undecided, sure = found.mean(dim=(1, 2, 3))
    assert dog < undecided < 0 and undecided < 10 * sure <= 0
