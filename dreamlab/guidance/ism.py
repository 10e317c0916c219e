"""Interval score matching (ISM).

    z_s   by DDIM inversion of z with the empty prompt, strides of `stride`
    z_t   from z_s by one more such step,  s = t - interval
    g = w(t) ( eh(z_t, t) - e_0(z_s, s) ),       w = sigma / alpha

SDS compares the prediction with noise that was drawn, so each step pulls z to another picture and
the average is blurred. Here the noise is the one that belongs to z, and what is compared are two
points of the same path: consistent targets, at up to 7 U-Net calls a step. e_0 of the path is
the empty prompt's, that of eh the negative prompt's. Only the noise at the path's beginning (t =
0.001) is random. Letters: `guidance.base`.

On a Gaussian prior the fixed point lies far beyond the prompt's mean, the farther the shorter the
interval is, since g compares a finite push with the small change of the prediction along an
interval: so weigh it lightly (LucidDreamer: 0.1, `latent_weight`), and keep the guidance scale low.

Source: Liang et al., LucidDreamer (2024), with the hyperparameters of its code.
"""

from dataclasses import dataclass

from dreamlab.core.schedules import Scalar, check_within, value_at
from dreamlab.guidance.guided import composed_noise
from dreamlab.guidance.inversion import FIRST, Times, invert, inverted
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.rule import GuidedConfig, GuidedRule, Judgement, Views
from dreamlab.guidance.weighting import Weighting
from dreamlab.priors.base import Latents, Prior


@dataclass(frozen=True, slots=True)
class Config(GuidedConfig):
    """Settings of interval score matching."""

    weighting: Weighting = "x0"
    """w(t), as in the other rules; the paper's is `x0`."""
    interval: Scalar = 0.08
    """t - s; shorter ones are more consistent and push harder."""
    stride: float = 0.2
    """Length of the inversion's steps up to s."""

    def __post_init__(self) -> None:
        GuidedConfig.__post_init__(self)
        check_within("interval", self.interval, 0.0, strictly=True)
        if not 0 < self.stride <= 1:
            raise ValueError(f"stride must lie in (0, 1], got {self.stride}")


class ISM(GuidedRule[Config]):
    """Interval score matching with one prior and one prompt."""

    def formula(self, views: Views) -> Judgement:
        def e_0(noisy: Latents, t: Times) -> Latents:
            return composed_noise(self.prior, noisy, t, views.conditionings, {"empty": 1.0})

        s = (views.t - value_at(self.config.interval, views.progress)).clamp(min=FIRST)
        z_s = inverted(self.prior, views.latents, views.noise, s, self.config.stride, e_0)
        score_s = e_0(z_s, s)
        z_t = invert(self.prior, z_s, [s, views.t], lambda *_: score_s)
        return self.weighted(views, self.guided(views, z_t) - score_s)


def build(config: Config, prior: Prior, prompts: Prompts) -> ISM:
    """Build the rule from its settings."""
    return ISM(config, prior, prompts)
