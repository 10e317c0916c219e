"""Settings that change over a stage, as pure functions of its progress.

A *scalar* in a recipe is a number or a mapping `{from, to, begin, end, ease}`. `begin` and `end`
are fractions of the stage in [0, 1]; before `begin` the value is `from`, after `end` it is `to`.
There is one meaning only: steps are never counted here.
"""

import math
from dataclasses import dataclass
from typing import Literal

Ease = Literal["linear", "cosine", "sqrt", "log", "step"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A value that moves from `start` to `stop` while progress goes from `begin` to `end`."""

    start: float
    """Value up to `begin` (`from` in YAML)."""
    stop: float
    """Value from `end` on (`to` in YAML)."""
    begin: float = 0.0
    """Fraction of the stage at which the change begins."""
    end: float = 1.0
    """Fraction of the stage at which the change is complete."""
    ease: Ease = "linear"
    """Shape of the change; `log` moves geometrically, `sqrt` fast first, `step` jumps at `end`."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.begin <= self.end <= 1.0:
            raise ValueError(
                f"begin and end must satisfy 0 <= begin <= end <= 1 (fractions of the stage), "
                f"got begin={self.begin}, end={self.end}"
            )
        if self.ease == "log" and (self.start <= 0 or self.stop <= 0):
            raise ValueError(f"ease 'log' needs positive ends, got {self.start} and {self.stop}")

    def at(self, progress: float) -> float:
        """Evaluate at `progress` in [0, 1]."""
        if progress >= self.end:
            return self.stop
        if progress <= self.begin or self.ease == "step":
            return self.start
        x = (progress - self.begin) / (self.end - self.begin)
        if self.ease == "log":
            return self.start * (self.stop / self.start) ** x
        if self.ease == "cosine":
            x = 0.5 - 0.5 * math.cos(math.pi * x)
        elif self.ease == "sqrt":
            x = math.sqrt(x)
        return self.start + (self.stop - self.start) * x


Scalar = float | Schedule
"""A number, or a number that changes over the stage."""


def value_at(scalar: Scalar, progress: float) -> float:
    """Evaluate a scalar at `progress`, the fraction of the stage that is done, in [0, 1]."""
    return scalar.at(progress) if isinstance(scalar, Schedule) else float(scalar)
