"""Settings that change over a stage, as pure functions of its progress.

A *scalar* in a recipe is a number or a mapping `{from, to, begin, end, ease}`. `begin` and `end`
are fractions of the stage in [0, 1]; before `begin` the value is `from`, after `end` it is `to`.
There is one meaning only: steps are never counted here.

Every number of guidance and of losses that says how much of something a step has (scales, weights,
thresholds, strengths, shares, learning rates) is such a scalar. Numbers that say how many
evaluations a step has (steps and strides of an inversion), what a network is, or how large
something is, are not.
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


def value_at(scalar: Scalar, progress: float | None) -> float:
    """Evaluate a scalar at `progress`, the fraction of the stage that is done, in [0, 1].

    Raises:
        ValueError: the scalar is a schedule, and the progress is not known (None).
    """
    if not isinstance(scalar, Schedule):
        return float(scalar)
    if progress is None:
        raise ValueError(f"{scalar} has a value only at a progress of the stage")
    return scalar.at(progress)


def ends(scalar: Scalar) -> tuple[float, float]:
    """Return the values between which those of a scalar lie: where it starts and where it stops."""
    if isinstance(scalar, Schedule):
        return scalar.start, scalar.stop
    return float(scalar), float(scalar)


def check_within(
    name: str, scalar: Scalar, low: float, high: float = math.inf, *, strictly: bool = False
) -> None:
    """Refuse a scalar that leaves [low, high] at any progress.

    Args:
        name: of the setting, for the message.
        scalar: its value.
        low: smallest value that is allowed.
        high: largest one.
        strictly: neither of the two is allowed itself.

    Raises:
        ValueError: it leaves them; the message names the setting, the limits and its ends.
    """
    found = ends(scalar)
    inside = [
        low < x and (x < high or high == math.inf) if strictly else low <= x <= high for x in found
    ]
    if all(inside):
        return
    got = f"{found[0]:g}" if found[0] == found[1] else f"{found[0]:g} to {found[1]:g}"
    if high == math.inf:
        raise ValueError(f"{name} must be {'>' if strictly else '>='} {low:g}, got {got}")
    where = f"strictly between {low:g} and {high:g}" if strictly else f"in [{low:g}, {high:g}]"
    raise ValueError(f"{name} must lie {where}, got {got}")
