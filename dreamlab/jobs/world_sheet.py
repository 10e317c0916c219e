"""A contact sheet of the toybox world: scenes as the prior's training images show them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from dreamlab.core.pictures import tile, to_bytes
from dreamlab.priors.toybox.world.captions import parse_prompt, prompt_of
from dreamlab.priors.toybox.world.scenes import pack, sample_scene
from dreamlab.priors.toybox.world.tracer import trace
from dreamlab.priors.toybox.world.views import sample_views

COLUMNS = 6
CELL = 192
IMAGE_SIZE = 192
CAPTION_WIDTH = 31
"""Characters that fit into a cell."""

MID_GREY = 110


def world_sheet(prompts: Sequence[str], *, count: int, seed: int) -> tuple[Image.Image, list[str]]:
    """Draw the scenes that the prompts mean, or `count` random ones, each from a random view.

    Returns:
        The sheet, and the canonical phrase of every scene in reading order.

    Raises:
        InputError: a prompt means no scene of the world.
    """
    rng = np.random.default_rng(seed)
    scenes = [parse_prompt(text) for text in prompts] or [sample_scene(rng) for _ in range(count)]
    views = sample_views(rng, len(scenes))
    render = trace(
        pack(scenes),
        views.cameras,
        size=IMAGE_SIZE,
        light=views.light_direction,
        ambient=views.ambient,
        background=views.background,
    )
    captions = [prompt_of(scene) for scene in scenes]
    images = [
        _captioned(to_bytes(image), caption)
        for image, caption in zip(render.rgb.numpy(), captions, strict=True)
    ]
    rows = [images[start : start + COLUMNS] for start in range(0, len(images), COLUMNS)]
    return tile(rows, cell=CELL), captions


def _captioned(image: np.ndarray, caption: str) -> np.ndarray:
    """Write a caption into the lower edge of a picture."""
    picture = Image.fromarray(image)
    short = caption if len(caption) <= CAPTION_WIDTH else caption[: CAPTION_WIDTH - 1] + "…"
    fill = "black" if image[-1, 0].mean() > MID_GREY else "white"
    ImageDraw.Draw(picture).text((4, IMAGE_SIZE - 14), short, fill=fill)
    return np.asarray(picture)
