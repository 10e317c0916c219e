"""DDIM inversion: the noisy latents from which deterministic sampling would lead back to z.

From a time t to a later one t', with the prediction e and x0 = (z_t - sigma e) / alpha at t,

    z_t' = alpha' x0 + sigma' e  ( + eta sqrt(v) zeta ),
    v = (sigma / sigma')^2 ( sigma'^2 - (alpha' / alpha sigma)^2 )

zeta is standard normal and v the variance of z_t given z_t' and z, so that eta > 0 makes the
inversion a stochastic one (SDI). The steps are those of a ladder of times: 0.001 (next to clean,
where every parametrisation is still defined), then multiples of a stride, the last one t itself.
Each view climbs its own ladder; where it has arrived it stays, so it does not depend on its
company. The formula holds on any path z_t = alpha z + sigma eps.

Source: Song et al., Denoising Diffusion Implicit Models (2021), eq. 12 and 16, read backwards.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.priors.base import Latents, Prior

FIRST = 1e-3
"""Time at which a ladder begins."""
SLACK = 1e-5
"""A remainder of the way below this, in strides, is no further rung."""

Times = Float[Tensor, " batch"]
Predict = Callable[[Latents, Times], Latents]
"""Noise prediction from noisy latents and their times."""


def ladder(t: Times, stride: float) -> list[Times]:
    """Return the times of an inversion to `t`, in rising order; the last ones are `t`."""
    rungs = math.ceil(t.max().item() / stride - SLACK)
    return [t.clamp(max=FIRST), *(t.clamp(max=k * stride) for k in range(1, rungs)), t]


def ddim_step(prior: Prior, noisy: Latents, eps: Latents, now: Times, after: Times) -> Latents:
    """Return alpha' x0 + sigma' e: the latents at `after` on the line of a prediction at `now`."""
    alpha, sigma = prior.alpha_sigma(now)
    later_alpha, later_sigma = prior.alpha_sigma(after)
    return later_alpha * (noisy - sigma * eps) / alpha + later_sigma * eps


def invert(
    prior: Prior,
    start: Latents,
    times: list[Times],
    predict: Predict,
    *,
    eta: float = 0.0,
    zeta: Float[Tensor, "batch steps channels height width"] | None = None,
) -> Latents:
    """Climb a ladder of times.

    Args:
        prior: gives alpha and sigma.
        start: latents at times[0].
        times: rising; a view whose time does not rise in a step is left as it is.
        predict: called once a step.
        eta: share of the posterior's standard deviation that is added as noise.
        zeta: that noise, one a step; needed if eta > 0.
    """
    latents = start
    for k, (now, after) in enumerate(pairwise(times)):
        moved = ddim_step(prior, latents, predict(latents, now), now, after)
        if eta > 0:
            assert zeta is not None
            moved = moved + eta * _posterior_std(prior, now, after) * zeta[:, k]
        latents = torch.where((after > now)[:, None, None, None], moved, latents)
    return latents


def inverted(
    prior: Prior, latents: Latents, noise: Latents, t: Times, stride: float, predict: Predict
) -> Latents:
    """Return z_t by inversion of z, of which only the beginning, at 0.001, has drawn noise.

    Args:
        prior: gives alpha and sigma.
        latents: z.
        noise: at the beginning.
        t: where it ends.
        stride: of the ladder.
        predict: called once a step.
    """
    times = ladder(t, stride)
    alpha, sigma = prior.alpha_sigma(times[0])
    return invert(prior, alpha * latents + sigma * noise, times, predict)


def _posterior_std(prior: Prior, now: Times, after: Times) -> Float[Tensor, "batch 1 1 1"]:
    """Return sqrt(v)."""
    alpha, sigma = prior.alpha_sigma(now)
    later_alpha, later_sigma = prior.alpha_sigma(after)
    added = later_sigma.square() - (later_alpha / alpha * sigma).square()
    return sigma / later_sigma * added.clamp(min=0).sqrt()
