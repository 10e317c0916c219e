"""A small line chart of the loss, as SVG inside the page.

Losses are noisy and of another size in every stage. So each stage has its own scale, between the
2nd and the 98th percentile of what is drawn, and the line is a running mean; stages lie side by
side, as wide as their share of the steps.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from jaxtyping import Float
from numpy import ndarray

WIDTH, HEIGHT = 640, 120
POINTS = 160
"""At most so many in a stage's line."""
SMOOTHING = 9
"""Steps of the running mean."""


def sparkline(losses: Sequence[tuple[str, int, float]], stages: Mapping[str, int]) -> str:
    """Draw losses (stage, step, loss) over all steps; empty text if there are fewer than two."""
    if len(losses) < 2:
        return ""
    total = sum(stages.values())
    parts: list[str] = []
    names: list[str] = []
    left = 0.0
    for index, (stage, steps) in enumerate(stages.items()):
        width = WIDTH * steps / total
        own = [(step, loss) for name, step, loss in losses if name == stage]
        if index:
            parts.append(
                f'<line class="border" x1="{left:.1f}" x2="{left:.1f}" y1="0" y2="{HEIGHT}"/>'
            )
        names.append(f'<span style="flex:{steps}">{escape(stage)}</span>')
        if len(own) > 1:
            parts.append(f'<polyline points="{_line(own, steps, left, width)}"/>')
        left += width
    about = ", ".join(f"{name} {_last(losses, name)}" for name in stages)
    return (
        f'<div class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="loss of each stage; last values: {escape(about)}">'
        f'{"".join(parts)}</svg><div class="chart-names">{"".join(names)}</div></div>'
    )


def _line(own: Sequence[tuple[int, float]], steps: int, left: float, width: float) -> str:
    x = left + width * np.array([step for step, _ in own]) / steps
    y = smooth(np.array([loss for _, loss in own]))
    low, high = np.percentile(y, [2, 98])
    share = np.clip((y - low) / (high - low), 0, 1) if high > low else np.full_like(y, 0.5)
    down = HEIGHT - 8 - share * (HEIGHT - 16)
    chosen = np.unique(np.linspace(0, len(own) - 1, min(POINTS, len(own))).astype(int))
    return " ".join(f"{x[i]:.1f},{down[i]:.1f}" for i in chosen)


def smooth(values: Float[ndarray, " n"], width: int = SMOOTHING) -> Float[ndarray, " n"]:
    """Return the mean over `width` values around each, over fewer at the ends."""
    kernel = np.ones(min(width, len(values)))
    sums = np.convolve(values, kernel, "same")
    return sums / np.convolve(np.ones(len(values)), kernel, "same")


def _last(losses: Sequence[tuple[str, int, float]], stage: str) -> str:
    own = [loss for name, _, loss in losses if name == stage]
    return f"{own[-1]:.4g}" if own else "not begun"
