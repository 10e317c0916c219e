"""Preview pictures of a stage: a column an azimuth; rows of rgb, normal and opacity.

A stage that makes a picture has that one alone, and more often.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image

from dreamlab.core.pictures import normal_to_rgb, save, tile, to_bytes
from dreamlab.core.protocols import Picture
from dreamlab.systems.stage import Stage

NUM_VIEWS = 4
CELL = 128
"""Side of each picture on the sheet, pixels."""
STEPS_PER_PREVIEW = 100
"""Steps between two previews of an object."""
PREVIEWS_OF_A_PICTURE = 8
"""Previews of a stage that makes a picture."""


def steps_between(stage: Stage) -> int:
    """Return the number of steps between two previews."""
    if isinstance(stage.representation, Picture):
        return -(-stage.config.steps // PREVIEWS_OF_A_PICTURE)
    return STEPS_PER_PREVIEW


def preview_sheet(stage: Stage, size: int, num_views: int = NUM_VIEWS) -> Image.Image:
    """Render `num_views` azimuths of a stage, `size` pixels square, and lay them out as a table.

    A picture is returned as it is.
    """
    if isinstance(stage.representation, Picture):
        return Image.fromarray(to_bytes(picture_of(stage, size)))
    cameras = stage.view_around(num_views)
    render = stage.render(cameras, size, size, normals=True)
    assert render.normal is not None
    alpha = render.alpha.cpu().numpy()
    normal = normal_to_rgb(render.normal.cpu().numpy())
    rows = [render.rgb.cpu().numpy(), normal, np.repeat(alpha, 3, axis=-1)]
    return tile(
        [[to_bytes(image) for image in row] for row in rows],
        row_labels=["rgb", "normal", "opacity"],
        column_labels=[f"{azimuth:.0f} deg" for azimuth in cameras.azimuth.tolist()],
        cell=CELL,
    )


def picture_of(stage: Stage, size: int) -> Float[ndarray, "{size} {size} 3"]:
    """Return the picture that a stage makes, sRGB in [0, 1]."""
    return stage.render(stage.view_around(1), size, size).rgb[0].cpu().numpy()


def save_preview(stage: Stage, step: int, folder: Path, size: int) -> Path:
    """Write the preview of all steps up to `step` to `folder`/<step>.webp; return its path."""
    path = folder / f"{step:06d}.webp"
    folder.mkdir(parents=True, exist_ok=True)
    save(preview_sheet(stage, size), path)
    return path
