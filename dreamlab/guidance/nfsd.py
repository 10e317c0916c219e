"""Noise-free score distillation (NFSD).

    g = w(t) ( s (e_y - e_0) + d ),      d = e_0           for t < t_c
                                         d = e_0 - e_neg   otherwise

SDS is s (e_y - e_0) + (e_0 - eps). Its second part should pull z to the pictures that the prior
knows, but eps drowns that in noise. At low noise levels e_0 has little noise of its own and stands
alone; at higher ones the prediction for a prompt of bad pictures takes the noise out of it. So s =
7.5 is enough. The annealed negative prompt guidance of HumanGaussian is the same. Letters:
`guidance.base`.

Source: Katzir et al., Noise-Free Score Distillation (2024), with its t_c = 0.2; negative prompt
there: "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark,
low-resolution, gloomy".
"""

from dataclasses import dataclass

from dreamlab.core.schedules import Scalar, check_within, ends, value_at
from dreamlab.guidance.guided import ALL, GUIDED, Group, composed_noise
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.rule import Judgement, Rule, RuleConfig, Views
from dreamlab.priors.base import Prior


@dataclass(frozen=True, slots=True)
class Config(RuleConfig):
    """Settings of noise-free score distillation."""

    scale: Scalar = 7.5
    """s, the strength of the direction to the prompt."""
    clean_below: Scalar = 0.2
    """t_c, the noise level below which e_0 stands alone."""

    def __post_init__(self) -> None:
        RuleConfig.__post_init__(self)
        check_within("clean_below", self.clean_below, 0.0, 1.0)

    @property
    def widest(self) -> tuple[Group, ...]:
        return GUIDED if ends(self.scale) == (1.0, 1.0) else ALL


class NFSD(Rule[Config]):
    """Noise-free score distillation with one prior and one prompt."""

    def formula(self, views: Views) -> Judgement:
        s = value_at(self.config.scale, views.progress)
        clean_below = value_at(self.config.clean_below, views.progress)
        is_high = (views.t >= clean_below).float()[:, None, None, None]
        residual = composed_noise(
            self.prior,
            views.noisy,
            views.t,
            views.conditionings,
            {"positive": s, "empty": 1 - s, "negative": -is_high},
        )
        return self.weighted(views, residual)


def build(config: Config, prior: Prior, prompts: Prompts) -> NFSD:
    """Build the rule from its settings."""
    return NFSD(config, prior, prompts)
