"""Loss curves as pictures, drawn with pillow.

A curve is shown as its raw values (pale) and their running mean; the vertical axis is logarithmic.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

PANEL = (640, 260)
MARGIN = (64, 26, 16, 28)
"""Left, top, right, bottom, pixels."""
RAW, MEAN, GRID, INK = (190, 205, 235), (30, 70, 170), (225, 225, 225), (40, 40, 40)


@dataclass(frozen=True, slots=True)
class Curve:
    """One series of a training log."""

    title: str
    steps: Sequence[int]
    values: Sequence[float]
    """Positive; values that are not are left out."""


def draw_curves(curves: Sequence[Curve]) -> Image.Image:
    """Draw one panel per curve, from top to bottom; curves with fewer than two points are blank."""
    sheet = Image.new("RGB", (PANEL[0], PANEL[1] * max(1, len(curves))), "white")
    for row, curve in enumerate(curves):
        _draw_panel(ImageDraw.Draw(sheet), curve, row * PANEL[1])
    return sheet


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of each value and up to `window - 1` values before it."""
    means, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        means.append(total / min(index + 1, window))
    return means


def _draw_panel(draw: ImageDraw.ImageDraw, curve: Curve, top: int) -> None:
    font = ImageFont.load_default()
    draw.text((MARGIN[0], top + 6), curve.title, fill=INK, font=font)
    points = [(float(s), float(v)) for s, v in zip(curve.steps, curve.values, strict=True) if v > 0]
    if len(points) < 2:
        return
    steps, values = [p[0] for p in points], [p[1] for p in points]
    ordered = sorted(values)
    # one early outlier must not flatten the rest
    low, high = math.log10(ordered[0]), math.log10(ordered[int(0.995 * (len(ordered) - 1))])
    high = max(high, low + 1e-3)
    left, right = MARGIN[0], PANEL[0] - MARGIN[2]
    upper, lower = top + MARGIN[1], top + PANEL[1] - MARGIN[3]

    def place(step: float, value: float) -> tuple[float, float]:
        x = left + (right - left) * (step - steps[0]) / (steps[-1] - steps[0])
        height = (math.log10(value) - low) / (high - low)
        return x, lower - (lower - upper) * min(1.0, max(0.0, height))

    for part in range(5):
        value = 10 ** (low + (high - low) * part / 4)
        y = place(steps[0], value)[1]
        draw.line([(left, y), (right, y)], fill=GRID)
        draw.text((6, y - 6), f"{value:.3g}", fill=INK, font=font)
    for part in range(5):
        step = steps[0] + (steps[-1] - steps[0]) * part / 4
        draw.text((place(step, values[0])[0] - 12, lower + 6), f"{step:.0f}", fill=INK, font=font)
    means = running_mean(values, max(1, len(values) // 50))
    draw.line([place(s, v) for s, v in points], fill=RAW)
    draw.line([place(s, v) for s, v in zip(steps, means, strict=True)], fill=MEAN, width=2)
