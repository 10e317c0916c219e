"""A picture of a layout: its boxes from several sides, numbered, each with an arrow to its front.

Boxes are drawn back to front by the distance of their middles, the sides that face the camera only,
a little transparent; where boxes overlap that order is a convention.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

from dreamlab.core.cameras import Cameras, orbit_cameras
from dreamlab.core.layout import Box, Layout
from dreamlab.core.pictures import tile

SIDES = {"front": (0.0, 15.0), "left": (-90.0, 15.0), "back": (180.0, 15.0), "above": (0.0, 80.0)}
"""Azimuth and elevation of each view, degrees."""
DISTANCE, FOV = 3.0, 42.0
"""Of the cameras, world units and degrees."""
COLORS = (
    (214, 64, 56),
    (58, 110, 205),
    (70, 160, 80),
    (232, 160, 40),
    (140, 84, 180),
    (40, 165, 165),
    (220, 110, 160),
    (120, 120, 120),
    (150, 105, 60),
    (170, 190, 40),
    (30, 60, 110),
    (240, 130, 90),
)
"""Of the boxes, in their order."""
FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))
"""Corners of the sides -x, +x, -y, +y, -z, +z, as `Box.corners` numbers them."""
BRIGHTNESS = (0.8, 0.8, 0.9, 0.9, 0.65, 1.0)
"""Of the sides, so that they can be told apart."""
OPACITY = 215
"""Of a side, of 255."""
SMOOTHING = 3
"""Pixels are drawn so many times finer and averaged."""
LINE = 16
"""Height of a line of the legend, pixels."""


def draw_layout(layout: Layout, *, cell: int = 240) -> Image.Image:
    """Draw a layout from the sides of `SIDES`, with the prompts below.

    Args:
        layout: what is drawn.
        cell: height and width of each view, pixels.
    """
    views = [_view(layout, index, cell) for index in range(len(SIDES))]
    sheet = tile([views], column_labels=list(SIDES), cell=cell)
    legend = [f"{k + 1}  {box.prompt}" for k, box in enumerate(layout.boxes)]
    if layout.prompt is not None:
        legend.insert(0, f"   {layout.prompt}")
    picture = Image.new("RGB", (sheet.width, sheet.height + LINE * len(legend) + 6), "white")
    picture.paste(sheet, (0, 0))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default()
    for row, text in enumerate(legend):
        k = row - (layout.prompt is not None)
        color = COLORS[k % len(COLORS)] if k >= 0 else (0, 0, 0)
        draw.text((8, sheet.height + 2 + LINE * row), text, fill=color, font=font)
    return picture


def _view(layout: Layout, index: int, cell: int) -> UInt8[ndarray, "side side 3"]:
    camera = _cameras()[index : index + 1]
    side = cell * SMOOTHING
    canvas = Image.new("RGBA", (side, side), (246, 246, 244, 255))
    eye = camera.position[0].numpy()
    order = sorted(
        range(len(layout)), key=lambda k: -float(np.linalg.norm(layout.boxes[k].center - eye))
    )
    for k in order:
        layer = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        _draw_box(ImageDraw.Draw(layer), layout.boxes[k], k, camera, side)
        canvas = Image.alpha_composite(canvas, layer)
    small = canvas.convert("RGB").resize((cell, cell), Image.Resampling.BOX)
    return np.asarray(small)


def _draw_box(draw: ImageDraw.ImageDraw, box: Box, number: int, camera: Cameras, side: int) -> None:
    corners = np.array(box.corners())
    places = _project(corners, camera, side)
    eye, middle = camera.position[0].numpy(), np.array(box.center)
    color = COLORS[number % len(COLORS)]
    for face, brightness in zip(FACES, BRIGHTNESS, strict=True):
        center = corners[list(face)].mean(axis=0)
        if (center - middle) @ (eye - center) <= 0:
            continue
        fill = tuple(round(brightness * channel) for channel in color)
        outline = [tuple(places[i]) for i in face]
        draw.polygon(outline, fill=(*fill, OPACITY), outline=(30, 30, 30, 255), width=SMOOTHING)
    _draw_arrow(draw, box, camera, side)
    font = ImageFont.load_default(size=14 * SMOOTHING)
    place = tuple(_project(middle[None], camera, side)[0])
    edge = {"stroke_width": SMOOTHING, "stroke_fill": (30, 30, 30)}
    draw.text(place, str(number + 1), fill="white", font=font, anchor="mm", **edge)


def _draw_arrow(draw: ImageDraw.ImageDraw, box: Box, camera: Cameras, side: int) -> None:
    """Draw an arrow on top of the box towards its front."""
    angle, reach = math.radians(box.facing), min(box.size[:2]) / 2
    ahead = np.array([math.cos(angle), math.sin(angle), 0.0])
    across = np.array([-ahead[1], ahead[0], 0.0])
    top = np.array(box.center) + np.array([0.0, 0.0, box.size[2] / 2])
    tip, neck = top + 0.9 * reach * ahead, top + 0.5 * reach * ahead
    wings = [neck + 0.25 * reach * across, neck - 0.25 * reach * across]
    start, *head = _project(np.array([top, neck, tip, *wings]), camera, side)
    draw.line([tuple(start), tuple(head[0])], fill=(255, 255, 255, 255), width=2 * SMOOTHING)
    draw.polygon([tuple(head[1]), tuple(head[2]), tuple(head[3])], fill=(255, 255, 255, 255))


def _cameras() -> Cameras:
    azimuth, elevation = (torch.tensor(angles) for angles in zip(*SIDES.values(), strict=True))
    one = torch.ones_like(azimuth)
    return orbit_cameras(azimuth, elevation, DISTANCE * one, FOV * one)


def _project(
    points: Float[ndarray, "points 3"] | Sequence[Sequence[float]], camera: Cameras, side: int
) -> Float[ndarray, "points 2"]:
    """Return where points appear in a square picture, pixels from its top left corner."""
    world = torch.as_tensor(np.asarray(points), dtype=torch.float32)
    homogeneous = torch.cat([world, torch.ones_like(world[:, :1])], dim=1)
    clip = homogeneous @ camera.world_to_clip()[0].T
    place = clip[:, :2] / clip[:, 3:] * torch.tensor([0.5, -0.5]) + 0.5
    return (place * side).numpy()
