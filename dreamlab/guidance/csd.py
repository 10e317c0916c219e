"""Classifier score distillation (CSD), with an annealed negative prompt.

    g = w(t) s ( e_y - (1 - n) e_0 - n e_neg )

With n = 0 this is the guidance term of SDS alone, s (e_y - e_0) = -s sigma grad log p(y | z_t): the
gradient of an implicit classifier, which says what to change and leaves the noise's variance out. n
moves its origin from the empty prompt to the negative one. What is not needed (e_neg at n = 0, e_0
at n = 1) is not evaluated. Letters: `guidance.base`.

    coarse stage of CSD       n = {from: 0, to: 1, end: 0.5}
    refinement of CSD         n = {from: 1, to: 0.5}
    stage 2 of SDS-Bridge     n = 1, prompts.negative "{prompt}, oversaturated, smooth, ..."
    CSM                       stride: z_t by DDIM inversion of z with the empty prompt

Nothing holds z near pictures in general, so late steps over-saturate unless n is lowered again.

Source: Yu et al., Text-to-3D with Classifier Score Distillation (2024), with the coefficients of
its code (cond_scale s, uncond_scale -s n, null_scale -s (1 - n)); McAllister et al., Rethinking
Score Distillation as a Bridge Between Image Distributions (2024); classifier score matching (CSM):
Yang et al., TV-3DG (2024).
"""

from dataclasses import dataclass

from dreamlab.core.schedules import Scalar, check_within, ends, value_at
from dreamlab.guidance.guided import ALL, GUIDED, Group, composed_noise
from dreamlab.guidance.inversion import Times, inverted
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.rule import Judgement, Rule, RuleConfig, Views
from dreamlab.priors.base import Latents, Prior


@dataclass(frozen=True, slots=True)
class Config(RuleConfig):
    """Settings of classifier score distillation."""

    scale: Scalar = 1.0
    """s, the strength of the gradient; it matters against regularisers and plain descent only."""
    negative_share: Scalar = 0.0
    """n, how far the origin lies at the negative prompt instead of the empty one, in [0, 1]."""
    stride: float | None = None
    """Length of the steps of an inversion that z_t comes from; none: its noise is drawn."""

    def __post_init__(self) -> None:
        RuleConfig.__post_init__(self)
        check_within("negative_share", self.negative_share, 0.0, 1.0)
        if self.stride is not None and not 0 < self.stride <= 1:
            raise ValueError(f"stride must lie in (0, 1], got {self.stride}")

    @property
    def widest(self) -> tuple[Group, ...]:
        share = ends(self.negative_share)
        if max(share) == 0:
            return ("positive", "empty")
        return GUIDED if min(share) == 1 else ALL


class CSD(Rule[Config]):
    """Classifier score distillation with one prior and one prompt."""

    def formula(self, views: Views) -> Judgement:
        s = value_at(self.config.scale, views.progress)
        n = value_at(self.config.negative_share, views.progress)
        coefficients = {"positive": s, "empty": s * (n - 1), "negative": -s * n}
        noisy = self.noisy(views)
        residual = composed_noise(self.prior, noisy, views.t, views.conditionings, coefficients)
        return self.weighted(views, residual)

    def noisy(self, views: Views) -> Latents:
        """Return z_t: of drawn noise, or from z by inversion."""
        if self.config.stride is None:
            return views.noisy

        def e_0(noisy: Latents, t: Times) -> Latents:
            return composed_noise(self.prior, noisy, t, views.conditionings, {"empty": 1.0})

        return inverted(self.prior, views.latents, views.noise, views.t, self.config.stride, e_0)


def build(config: Config, prior: Prior, prompts: Prompts) -> CSD:
    """Build the rule from its settings."""
    return CSD(config, prior, prompts)
