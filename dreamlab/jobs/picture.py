"""What is made of a run whose last stage makes a picture: the picture, and how it came to be."""

import numpy as np
from PIL import Image

from dreamlab.core.errors import InputError
from dreamlab.core.pictures import save, tile, to_bytes
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.recipes import RunConfig
from dreamlab.systems.stage import Stage
from dreamlab.training.previews import picture_of

RENDERER = "flat"
"""The renderer of pictures."""
CELL = 128
"""Side of a picture on the strip, pixels."""


def makes_picture(config: RunConfig) -> bool:
    """Return whether the last stage makes a picture, not an object."""
    return list(config.stages.values())[-1].renderer["name"] == RENDERER


def check_makes_picture(config: RunConfig) -> None:
    """Refuse settings whose last stage makes an object.

    Raises:
        InputError: it does.
    """
    if not makes_picture(config):
        raise InputError(
            f"the recipe {config.recipe!r} makes an object, not a picture.",
            f"use `dreamlab generate`, or a recipe that ends with the renderer {RENDERER}.",
        )


def write_picture(stage: Stage, folder: RunFolder) -> None:
    """Write image.png at the size of the last training renders, and strip.png of the previews."""
    save(Image.fromarray(to_bytes(picture_of(stage, stage.config.size_at(1.0)))), folder.image)
    previews = sorted(folder.previews.glob("*.webp"))
    if previews:
        pictures = [np.asarray(Image.open(path).convert("RGB")) for path in previews]
        steps = [f"step {int(path.stem)}" for path in previews]
        save(tile([pictures], column_labels=steps, cell=CELL), folder.strip)
