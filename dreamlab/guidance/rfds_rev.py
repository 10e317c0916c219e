"""Rectified flow distillation, reversed (RFDS-Rev): the noise is corrected before it is used.

    eps' = eps + alpha / (alpha + sigma) (u + z - eps),     u the velocity eps - x0 predicted at z_t
    z_t' = alpha z + sigma eps'
    g = w(t) ( eh(z_t') - eps' ),       w = (alpha + sigma) / alpha

On the straight path (alpha = 1 - s, sigma = s) the last line is the difference of velocities,
uh(z_t') - (eps' - z), and the factor of the first one is 1 - s. The first line is one step towards
the noise that the flow would map to z, and it needs no velocity: from u - (eps - z) = (alpha +
sigma) / alpha (e - eps) follows eps' = e_y(z_t), the noise that the prior predicts without
guidance. It is corrected once, as in the paper. Plain RFDS is `sds` with `weighting: flow`. With
other than flow models it is the same rule at w = `sds` or another weighting. Letters:
`guidance.base`.

Source: Yang et al., Text-to-Image Rectified Flow as Plug-and-Play Priors (2025), with the order of
steps of its code for SD3.
"""

from dataclasses import dataclass

from dreamlab.core.schedules import Scalar
from dreamlab.guidance.guided import composed_noise
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.rule import GuidedConfig, GuidedRule, Judgement, Views
from dreamlab.guidance.weighting import Weighting
from dreamlab.priors.base import Prior


@dataclass(frozen=True, slots=True)
class Config(GuidedConfig):
    """Settings of reversed rectified flow distillation."""

    weighting: Weighting = "flow"
    """w(t) of the noise residual, as in the other rules; `flow` is a constant for velocities."""
    guidance_scale: Scalar = 100.0
    """s in e_0 + s (e_y - e_0); 1: no guidance."""


class RFDSRev(GuidedRule[Config]):
    """Reversed rectified flow distillation with one prior and one prompt."""

    def formula(self, views: Views) -> Judgement:
        noise = composed_noise(
            self.prior, views.noisy, views.t, views.conditionings, {"positive": 1.0}
        )
        noisy = views.alpha * views.latents + views.sigma * noise
        return self.weighted(views, self.guided(views, noisy) - noise)


def build(config: Config, prior: Prior, prompts: Prompts) -> RFDSRev:
    """Build the rule from its settings."""
    return RFDSRev(config, prior, prompts)
