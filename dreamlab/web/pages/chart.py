"""Small line charts of a run, as SVG inside the page; stages lie side by side, as wide as their
share of the steps.

Losses are noisy and of another size in every stage. So each stage has its own scale, between the
2nd and the 98th percentile of what is drawn, and the line is a running mean. Memory is drawn as it
is, from zero to its most.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np
from jaxtyping import Float
from numpy import ndarray

WIDTH, HEIGHT = 640, 120
POINTS = 160
"""At most so many in a stage's line."""
SMOOTHING = 9
"""Steps of the running mean."""


Series = Sequence[tuple[str, int, float]]
"""Stage, step in it, value."""
Drawn = Float[ndarray, " points"]


def loss_chart(losses: Series, stages: Mapping[str, int]) -> str:
    """Draw losses over all steps; empty text if there are fewer than two."""
    return _chart(losses, stages, "loss", _loss_heights)


def memory_chart(memory: Series, stages: Mapping[str, int]) -> str:
    """Draw the memory in use, GB, over all steps; empty text if there are fewer than two points."""
    most = max((value for _, _, value in memory), default=0.0)
    return _chart(memory, stages, "memory, GB", lambda values: values / (most or 1.0))


def _loss_heights(values: Drawn) -> Drawn:
    smoothed = smooth(values)
    low, high = np.percentile(smoothed, [2, 98])
    if high <= low:
        return np.full_like(smoothed, 0.5)
    return np.clip((smoothed - low) / (high - low), 0, 1)


def _chart(
    series: Series, stages: Mapping[str, int], what: str, heights: Callable[[Drawn], Drawn]
) -> str:
    """Draw a series; `heights` gives values of one stage their places, 0 below and 1 above."""
    if len(series) < 2:
        return ""
    total = sum(stages.values())
    parts: list[str] = []
    names: list[str] = []
    left = 0.0
    for index, (stage, steps) in enumerate(stages.items()):
        width = WIDTH * steps / total
        own = [(step, value) for name, step, value in series if name == stage]
        if index:
            parts.append(
                f'<line class="border" x1="{left:.1f}" x2="{left:.1f}" y1="0" y2="{HEIGHT}"/>'
            )
        names.append(f'<span style="flex:{steps}">{escape(stage)}</span>')
        if len(own) > 1:
            x = left + width * np.array([step for step, _ in own]) / steps
            line = _line(x, heights(np.array([value for _, value in own])))
            parts.append(f'<polyline points="{line}"/>')
        left += width
    about = ", ".join(f"{name} {_last(series, name)}" for name in stages)
    return (
        f'<div class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{what} of each stage; last values: {escape(about)}">'
        f'{"".join(parts)}</svg><div class="chart-names">{"".join(names)}</div></div>'
    )


def _line(x: Drawn, heights: Drawn) -> str:
    down = HEIGHT - 8 - heights * (HEIGHT - 16)
    chosen = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(int))
    return " ".join(f"{x[i]:.1f},{down[i]:.1f}" for i in chosen)


def smooth(values: Float[ndarray, " n"], width: int = SMOOTHING) -> Float[ndarray, " n"]:
    """Return the mean over `width` values around each, over fewer at the ends."""
    kernel = np.ones(min(width, len(values)))
    sums = np.convolve(values, kernel, "same")
    return sums / np.convolve(np.ones(len(values)), kernel, "same")


def _last(series: Series, stage: str) -> str:
    own = [value for name, _, value in series if name == stage]
    return f"{own[-1]:.4g}" if own else "not begun"
