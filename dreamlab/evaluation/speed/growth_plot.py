"""Growth of cost as a picture: points measured, and the line fitted, both axes logarithmic."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from dreamlab.evaluation.speed.growth import Growth

PANEL = (300, 230)
MARGIN = (44, 30, 14, 26)
"""Left, top, right, bottom, pixels."""
COLUMNS = 3
GRID, INK, POINT, LINE = (225, 225, 225), (40, 40, 40), (30, 70, 170), (190, 205, 235)


def draw_growth(growths: Sequence[Growth]) -> Image.Image:
    """Draw a panel for each series, with its exponent."""
    rows = -(-len(growths) // COLUMNS)
    sheet = Image.new("RGB", (PANEL[0] * COLUMNS, PANEL[1] * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for index, growth in enumerate(growths):
        corner = (PANEL[0] * (index % COLUMNS), PANEL[1] * (index // COLUMNS))
        _draw_panel(draw, growth, corner)
    return sheet


def _draw_panel(draw: ImageDraw.ImageDraw, growth: Growth, corner: tuple[int, int]) -> None:
    font = ImageFont.load_default()
    left, right = corner[0] + MARGIN[0], corner[0] + PANEL[0] - MARGIN[2]
    top, bottom = corner[1] + MARGIN[1], corner[1] + PANEL[1] - MARGIN[3]
    sizes, times = growth.sizes, growth.milliseconds
    span = [math.log(sizes[0]), math.log(sizes[-1])]
    levels = [math.log(0.8 * min(times)), math.log(1.25 * max(times))]

    def place(size: int, time: float) -> tuple[float, float]:
        x = (math.log(size) - span[0]) / (span[1] - span[0])
        y = (math.log(time) - levels[0]) / (levels[1] - levels[0])
        return left + (right - left) * x, bottom - (bottom - top) * y

    title = f"{growth.what}: time ~ n^{growth.exponent:.2f}"
    draw.text((left, corner[1] + 8), title, fill=INK, font=font)
    for part in range(4):
        time = math.exp(levels[0] + (levels[1] - levels[0]) * part / 3)
        y = place(sizes[0], time)[1]
        draw.line([(left, y), (right, y)], fill=GRID)
        draw.text((corner[0] + 4, y - 6), f"{time:.3g}", fill=INK, font=font)
    for size in (sizes[0], sizes[-1]):
        x = place(size, times[0])[0]
        draw.text((min(x, right - 36) - 4, bottom + 6), f"{size:,}", fill=INK, font=font)
    draw.line([place(size, growth.fitted(size)) for size in (sizes[0], sizes[-1])], LINE, 2)
    for size, time in zip(sizes, times, strict=True):
        x, y = place(size, time)
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=POINT)
    draw.text((corner[0] + 4, corner[1] + 8), "ms", fill=INK, font=font)
