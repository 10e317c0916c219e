"""Preview pictures of a stage: a column an azimuth; rows of rgb, normal and opacity."""

from pathlib import Path

import numpy as np
from PIL import Image

from dreamlab.core.pictures import normal_to_rgb, save, tile, to_bytes
from dreamlab.systems.stage import Stage

NUM_VIEWS = 4
CELL = 128
"""Side of each picture on the sheet, pixels."""


def preview_sheet(stage: Stage, size: int, num_views: int = NUM_VIEWS) -> Image.Image:
    """Render `num_views` azimuths of a stage, `size` pixels square, and lay them out as a table."""
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


def save_preview(stage: Stage, step: int, folder: Path, size: int) -> Path:
    """Write the preview of all steps up to `step` to `folder`/<step>.webp; return its path."""
    path = folder / f"{step:06d}.webp"
    folder.mkdir(parents=True, exist_ok=True)
    save(preview_sheet(stage, size), path)
    return path
