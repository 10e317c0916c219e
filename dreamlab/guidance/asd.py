"""Asynchronous score distillation (ASD): variational score distillation without a second network.

    g = w(t) ( eh(z_t, t) - e_y(z_t', t') ),      t' = t + u d (t - t_min),   u ~ U[0, 1]

z_t and z_t' share their noise. VSD trains a network to predict noise better on renders than the
prior does; the prior itself predicts better at a later time t', so that stands in for the trained
one. t_min is the lower end of the range of times at this moment; t' is at most 0.999. d = 0 and s =
1 give g = 0. Letters: `guidance.base`.

Source: Ma et al., ScaleDreamer (2024), with d, s and w of its code.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.schedules import Scalar, check_within, value_at
from dreamlab.guidance.guided import composed_noise
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.rule import GuidedConfig, GuidedRule, Judgement, Views
from dreamlab.guidance.timesteps import draw_alike
from dreamlab.priors.base import Latents, Prior
from dreamlab.priors.multi_view import group_size

LAST = 0.999
"""Latest time that is asked for: at 1 nothing of the picture is left."""


@dataclass(frozen=True, slots=True)
class Config(GuidedConfig):
    """Settings of asynchronous score distillation."""

    shift: Scalar = 0.1
    """d, the largest shift of time as a share of t - t_min."""

    def __post_init__(self) -> None:
        GuidedConfig.__post_init__(self)
        check_within("shift", self.shift, 0.0)


class ASD(GuidedRule[Config]):
    """Asynchronous score distillation with one prior and one prompt."""

    def draw_extra(
        self, noise: Latents, generator: torch.Generator
    ) -> Float[Tensor, "batch *numbers"]:
        """Draw u, one for each view or, with a multi-view prior, each group of views."""
        return draw_alike(len(noise), group_size(self.prior, len(noise)), generator)

    def formula(self, views: Views) -> Judgement:
        assert views.extra is not None
        t_min = value_at(self.config.timesteps.t_min, views.progress)
        shift = value_at(self.config.shift, views.progress)
        later = views.t + views.extra * shift * (views.t - t_min).clamp(min=0)
        later = later.clamp(max=LAST)
        alpha, sigma = self.prior.alpha_sigma(later)
        noisier = alpha * views.latents + sigma * views.noise
        plain = composed_noise(self.prior, noisier, later, views.conditionings, {"positive": 1.0})
        return self.weighted(views, self.guided(views, views.noisy) - plain)


def build(config: Config, prior: Prior, prompts: Prompts) -> ASD:
    """Build the rule from its settings."""
    return ASD(config, prior, prompts)
