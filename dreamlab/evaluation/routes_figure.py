"""The figure of the routes: a column a route; what it made, and the sizes of its gradients.

Sizes are shown as colours of their logarithm, one scale for the whole figure, from dark (the 1st
percentile of all, and everything below) over red to white (the largest).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

from dreamlab.core.pictures import tile, to_bytes
from dreamlab.evaluation.routes import ROUTES, Comparison

CELL = 128
BAR = (256, 12)
"""Width and height of the legend's bar, pixels."""
STOPS = np.array([[0, 0, 20], [90, 0, 110], [220, 50, 50], [250, 170, 30], [255, 255, 240]]) / 255
"""Colours along the scale, evenly spaced."""
LOWEST = 0.01
"""Share of sizes below the scale."""


def draw(comparisons: Sequence[Comparison]) -> Image.Image:
    """Draw the figure."""
    low, high = scale_of(comparisons)
    rows, labels = [], []
    for comparison in comparisons:
        routes = {route.name: route for route in comparison.routes}
        pictures, maps = [], []
        for name in ROUTES:
            route = routes.get(name)
            if route is None:
                pictures.append(_absent())
                maps.append(_absent())
                continue
            pictures.append(to_bytes(route.picture.numpy()))
            maps.append(to_bytes(heat(route.after.numpy(), low, high)))
        rows += [pictures, maps]
        labels += [comparison.recipe, f"c = {comparison.threshold:.3g}"]
    sheet = tile(rows, row_labels=labels, column_labels=list(ROUTES), cell=CELL)
    return _with_legend(sheet, low, high)


def scale_of(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Return the ends of the scale, log10."""
    all_sizes = [r.after.numpy().ravel() for c in comparisons for r in c.routes]
    positive = np.concatenate(all_sizes)
    positive = positive[np.isfinite(positive) & (positive > 0)]
    low, high = np.log10(np.quantile(positive, [LOWEST, 1.0]))
    return float(low), float(max(high, low + 1e-3))


def heat(size: Float[ndarray, "h w"], low: float, high: float) -> Float[ndarray, "h w 3"]:
    """Return colours of log10 of the sizes, from `low` to `high`."""
    share = np.clip((np.log10(np.maximum(size, 10.0**low)) - low) / (high - low), 0, 1)
    places = np.linspace(0, 1, len(STOPS))
    return np.stack([np.interp(share, places, STOPS[:, k]) for k in range(3)], axis=-1)


def _absent() -> UInt8[ndarray, "h w 3"]:
    image = Image.new("RGB", (CELL, CELL), (200, 200, 200))
    ImageDraw.Draw(image).text((24, CELL // 2 - 6), "pictures only", fill="black")
    return np.asarray(image)


def _with_legend(sheet: Image.Image, low: float, high: float) -> Image.Image:
    width, height = BAR
    figure = Image.new("RGB", (sheet.width, sheet.height + height + 24), "white")
    figure.paste(sheet, (0, 0))
    ramp = np.tile(10.0 ** np.linspace(low, high, width), (height, 1))
    top = sheet.height + 4
    left = (sheet.width - width) // 2
    figure.paste(Image.fromarray(to_bytes(heat(ramp, low, high))), (left, top))
    pen, font = ImageDraw.Draw(figure), ImageFont.load_default()
    text = "size of a pixel's gradient (latents: of a latent's), logarithmic"
    pen.text((left, top + height + 2), text, fill="black", font=font)
    pen.text((left - 52, top), f"{10**low:.2g}", fill="black", font=font)
    pen.text((left + width + 8, top), f"{10**high:.2g}", fill="black", font=font)
    return figure
