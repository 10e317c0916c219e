"""Stable score distillation (SSD).

    h = s (e_y - e_0)                                the direction to the prompt: seeks the mode
    r = e_y - <e_y, eps> / <eps, eps> eps            the prediction without the noise that was added

    g = w(t) h                   for t > t_c
    g = w(t) |h| / |r| r         for t <= t_c

At low noise levels h is erratic, and what the prediction finds beside eps tells how the picture
differs from those of the prior; it is given the length of h. Lengths and products are a view's.
Letters: `guidance.base`. In a code in circulation (PGC-3D's) the product with eps is divided by
|eps| instead of its square, which takes out far more than the noise; here r is orthogonal to eps.

Source: Tang et al., Stable Score Distillation for High-Quality 3D Generation (2023), t_c = 0.1 as
in PGC-3D.
"""

from dataclasses import dataclass

import torch

from dreamlab.core.schedules import Scalar, check_within, value_at
from dreamlab.guidance.base import compose
from dreamlab.guidance.guided import Group, view_scores
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.rule import Judgement, Rule, RuleConfig, Views
from dreamlab.priors.base import Latents, PerView, Prior

MIN_NORM = 1e-6
COMPARED: tuple[Group, ...] = ("positive", "empty")


@dataclass(frozen=True, slots=True)
class Config(RuleConfig):
    """Settings of stable score distillation."""

    scale: Scalar = 7.5
    """s, the strength of the gradient."""
    steady_below: Scalar = 0.1
    """t_c, the noise level up to which the prediction without its noise is used."""

    def __post_init__(self) -> None:
        RuleConfig.__post_init__(self)
        check_within("steady_below", self.steady_below, 0.0, 1.0)

    @property
    def widest(self) -> tuple[Group, ...]:
        return COMPARED


class SSD(Rule[Config]):
    """Stable score distillation with one prior and one prompt."""

    def formula(self, views: Views) -> Judgement:
        s = value_at(self.config.scale, views.progress)
        scores, push = view_scores(self.prior, views.noisy, views.t, views.conditionings, COMPARED)
        h = compose(scores, {"positive": s, "empty": -s})
        if push is not None:
            h = h + s * push
        e_y = scores["positive"][:, 0]
        r = e_y - inner(e_y, views.noise) / inner(views.noise, views.noise) * views.noise
        steady = norm(h) / norm(r).clamp(min=MIN_NORM) * r
        steady_below = value_at(self.config.steady_below, views.progress)
        is_low = (views.t <= steady_below)[:, None, None, None]
        return self.weighted(views, torch.where(is_low, steady, h))


def inner(a: Latents, b: Latents) -> PerView:
    """Return the scalar product of each view."""
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)


def norm(a: Latents) -> PerView:
    """Return the length of each view."""
    return inner(a, a).sqrt()


def build(config: Config, prior: Prior, prompts: Prompts) -> SSD:
    """Build the rule from its settings."""
    return SSD(config, prior, prompts)
