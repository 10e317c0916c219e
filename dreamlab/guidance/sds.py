"""Score distillation sampling (SDS).

    g = w(t) (eh - eps),        eh = e_0 + s (e_y - e_0)

Equivalently z is pulled to the one-step denoised x0h = (z_t - sigma eh) / alpha, since
eh - eps = (alpha / sigma) (z - x0h). Letters, normalisation, image space: `guidance.rule`; guidance
by s: `guidance.guided`. Other rules are settings of this one:

    HiFA             image_weight 0.01, timesteps.policy sqrt
    RFDS             weighting flow, with a rectified flow: g = uh - (eps - z), uh its velocity
    an x0h loss      weighting x0: an unweighted pull to x0h (CFD, StableDreamer)

Source: Poole et al., DreamFusion (2023), eq. 3; RFDS: Yang et al., Text-to-Image Rectified Flow as
Plug-and-Play Priors (2025).
"""

from dataclasses import dataclass

from dreamlab.core.schedules import Scalar
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.rule import GuidedConfig, GuidedRule, Judgement, Views
from dreamlab.priors.base import Prior


@dataclass(frozen=True, slots=True)
class Config(GuidedConfig):
    """Settings of score distillation sampling."""

    guidance_scale: Scalar = 100.0
    """s in e_0 + s (e_y - e_0); a scale of 100 in threestudio's SDS is 101 here."""


class SDS(GuidedRule[Config]):
    """Score distillation sampling with one prior and one prompt."""

    def formula(self, views: Views) -> Judgement:
        guided = self.guided(views, views.noisy)
        x0 = (views.noisy - views.sigma * guided) / views.alpha
        return self.weighted(views, guided - views.noise, x0)


def build(config: Config, prior: Prior, prompts: Prompts) -> SDS:
    """Build the rule from its settings."""
    return SDS(config, prior, prompts)
