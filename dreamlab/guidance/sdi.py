"""Score distillation via inversion (SDI).

    z_t   by stochastic DDIM inversion of z with e_0 + s_inv (e_y - e_0), s_inv = -s
    x0h = (z_t - sigma eh(z_t)) / alpha,        g = w(t) (alpha / sigma) (z - x0h)

with `weighting: x0` (the default) simply g = z - x0h. SDS is the same with noise that was drawn;
finding the noise that belongs to z makes a step of optimisation a step of 2D sampling in a changed
variable, with a single noise level that falls from 0.98 to 0.25. Up to 1 + `inversion_steps` U-Net
evaluations a step. On Gaussians of one width the fixed point is that of guidance by (1 + r) s - r
s_inv, r = alpha s_y / sqrt(alpha^2 s_y^2 + sigma^2) with s_y their width: the negative s_inv
strengthens the prompt. Letters: `guidance.base`; inversion: `guidance.inversion`.

Departures from the code of the paper: it inverts to a random time up to one stride beyond t and
treats the result as if it were at t; here the inversion ends at t (`timesteps.jitter` varies t).
Its loss is a mean over values, half of it divided by the batch: multiply its weight by 1 / (C h w)
to compare.

Averaging the gradients of two views from opposite sides (MV-SDI) is what `views: 2` of a stage does
with `cameras: {together: 2}`.

Source: Lukoianov et al., Score Distillation via Reparametrized DDIM (2024), with the
hyperparameters of its code in threestudio.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.schedules import Scalar, check_within, value_at
from dreamlab.guidance.guided import guided_noise
from dreamlab.guidance.inversion import Times, invert, ladder
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.rule import GuidedConfig, GuidedRule, Judgement, Views
from dreamlab.guidance.timesteps import TimestepConfig
from dreamlab.guidance.weighting import Weighting
from dreamlab.priors.base import Latents, Prior


@dataclass(frozen=True, slots=True)
class Config(GuidedConfig):
    """Settings of score distillation via inversion."""

    weighting: Weighting = "x0"
    """w(t), as in the other rules; the paper's is `x0`."""
    timesteps: TimestepConfig = field(
        default_factory=lambda: TimestepConfig(policy="linear", t_min=0.25, t_max=0.98)
    )
    """Which noise levels are judged when; the paper's falls linearly."""
    inversion_scale: Scalar = -7.5
    """s_inv; minus the guidance scale undoes guidance on the way up."""
    inversion_steps: int = 10
    """Steps that an inversion to t = 1 would take."""
    inversion_eta: Scalar = 0.3
    """Share of the posterior's standard deviation that each step adds as noise; 0: none."""

    def __post_init__(self) -> None:
        GuidedConfig.__post_init__(self)
        if self.inversion_steps < 1:
            raise ValueError(f"inversion_steps must be at least 1, got {self.inversion_steps}")
        check_within("inversion_eta", self.inversion_eta, 0.0)


class SDI(GuidedRule[Config]):
    """Score distillation via inversion with one prior and one prompt."""

    def draw_extra(
        self, noise: Latents, generator: torch.Generator
    ) -> Float[Tensor, "batch *numbers"]:
        """Draw zeta of each step of the inversion."""
        shape = (len(noise), self.config.inversion_steps, *noise.shape[1:])
        return torch.randn(shape, generator=generator)

    def formula(self, views: Views) -> Judgement:
        scale = value_at(self.config.inversion_scale, views.progress)

        def predict(noisy: Latents, t: Times) -> Latents:
            return guided_noise(self.prior, noisy, t, views.conditionings, scale=scale)

        times = ladder(views.t, 1 / self.config.inversion_steps)
        start = self.prior.alpha_sigma(times[0])[0] * views.latents
        eta = value_at(self.config.inversion_eta, views.progress)
        noisy = invert(self.prior, start, times, predict, eta=eta, zeta=views.extra)
        x0 = (noisy - views.sigma * self.guided(views, noisy)) / views.alpha
        residual = views.alpha / views.sigma * (views.latents - x0)
        return self.weighted(views, residual, x0)


def build(config: Config, prior: Prior, prompts: Prompts) -> SDI:
    """Build the rule from its settings."""
    return SDI(config, prior, prompts)
