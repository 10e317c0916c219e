"""At which noise level a render is judged, as a policy over the stage.

`p` is the progress of the stage, t the fraction of the noise schedule. Both ends of the range are
scalars, so they may move: DreamFusion is `uniform` with constant ends, ProlificDreamer's drop is
t_max = {from: 0.98, to: 0.5, end: 0.2, ease: step}, MVDream anneals both ends linearly.

    uniform     t ~ U[t_min, t_max]
    linear      t = t_max - (t_max - t_min) p            (DreamGaussian, SDI)
    sqrt        t = t_max - (t_max - t_min) sqrt(p)      (HiFA)
    dreamtime   t falls as fast as W(t) allows: the part of W above t is p  (DreamTime)

`jitter` d adds U(-d, d) to the policies that give one point; the result stays in the range.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.schedules import Scalar, check_within, ends, value_at

DREAMTIME_UPPER = (0.8, 0.3)
"""Where W's flat part ends above, and the width of the shoulder there (DreamTime: m1, s1)."""
DREAMTIME_LOWER = (0.5, 0.1)
"""The same below (m2, s2)."""
DREAMTIME_POINTS = 1000


@dataclass(frozen=True, slots=True)
class TimestepConfig:
    """How the noise level is chosen; 0 is clean, 1 pure noise."""

    policy: Literal["uniform", "linear", "sqrt", "dreamtime"] = "uniform"
    """`uniform` draws from the range; the others move from t_max to t_min over the stage."""
    t_min: Scalar = 0.02
    """Lower end of the range."""
    t_max: Scalar = 0.98
    """Upper end of the range."""
    jitter: Scalar = 0.0
    """Half-width of the uniform noise added to `linear`, `sqrt` and `dreamtime`."""
    shared: bool = False
    """Give all views of a step the same noise level."""

    def __post_init__(self) -> None:
        for name in ("t_min", "t_max"):
            check_within(name, getattr(self, name), 0.0, 1.0, strictly=True)
        for i in range(101):
            low, high = value_at(self.t_min, i / 100), value_at(self.t_max, i / 100)
            if low > high:
                raise ValueError(f"t_min {low:g} is above t_max {high:g} at {i} % of the stage")
        check_within("jitter", self.jitter, 0.0)
        if max(ends(self.jitter)) > 0 and self.policy == "uniform":
            raise ValueError(f"jitter must be 0 with the uniform policy, got {self.jitter}")


def draw_alike(
    num_views: int, together: int, generator: torch.Generator
) -> Float[Tensor, " batch"]:
    """Draw a number of U(0, 1) for every `together` views in a row, on the CPU."""
    return torch.rand(num_views // together, generator=generator).repeat_interleave(together)


def sample_timesteps(
    config: TimestepConfig,
    progress: float,
    num_views: int,
    generator: torch.Generator,
    together: int = 1,
) -> Float[Tensor, " batch"]:
    """Draw the times of one step, on the CPU; every `together` views in a row have one time."""
    low, high = value_at(config.t_min, progress), value_at(config.t_max, progress)
    together = num_views if config.shared else together
    uniform = draw_alike(num_views, together, generator)
    if config.policy == "uniform":
        t = low + (high - low) * uniform
    else:
        noise = value_at(config.jitter, progress) * (2 * uniform - 1)
        t = (point(config.policy, low, high, progress) + noise).clamp(low, high)
    return t


def point(policy: str, low: float, high: float, progress: float) -> float:
    """Return the time at `progress` of a policy that gives one point."""
    if policy == "linear":
        return high - (high - low) * progress
    if policy == "sqrt":
        return high - (high - low) * math.sqrt(progress)
    return dreamtime(low, high, progress)


def dreamtime_weight(t: Float[Tensor, " points"]) -> Float[Tensor, " points"]:
    """Return W(t): 1 between the shoulders, a Gaussian's fall outside.

    Source: Huang et al., DreamTime (2024), with the shoulders of PGC-3D's code.
    """
    (upper, upper_width), (lower, lower_width) = DREAMTIME_UPPER, DREAMTIME_LOWER
    above = ((t - upper).clamp(min=0) / upper_width).square()
    below = ((lower - t).clamp(min=0) / lower_width).square()
    return torch.exp(-(above + below) / 2)


def dreamtime(low: float, high: float, progress: float) -> float:
    """Return t with (integral of W from t to `high`) = p (integral of W from `low` to `high`)."""
    edges = torch.linspace(high, low, DREAMTIME_POINTS + 1, dtype=torch.float64)
    tail = dreamtime_weight((edges[:-1] + edges[1:]) / 2).cumsum(0)
    tail = torch.cat([tail.new_zeros(1), tail]) / tail[-1]
    j = int(torch.searchsorted(tail, progress).clamp(1, DREAMTIME_POINTS))
    within = (progress - tail[j - 1]) / (tail[j] - tail[j - 1])
    return float(edges[j - 1] + within * (edges[j] - edges[j - 1]))
