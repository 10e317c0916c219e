"""Pictures of a result: contact sheet and turntable video.

The contact sheet shows the trained field, as the guidance saw it. The turntable shows the exported
GLB, read back from disk: that is what the user gets, and a mesh is drawn a dozen times faster. Only
where there is no GLB it shows the field.
Images are sRGB over white, `[views height width 3]`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.pictures import save, tile, to_bytes
from dreamlab.core.render import Render
from dreamlab.export.files.reload import load_glb
from dreamlab.export.files.video import write_video
from dreamlab.jobs.phases import Moved
from dreamlab.ops.triangles.raycast import render_mesh
from dreamlab.systems.stage import Stage

SHEET_VIEWS = 8
SHEET_SIZE = 128
FRAMES = 36
FRAMES_PER_SECOND = 12
MESH_SIZE = 192
FIELD_SIZE = 128
CHUNK = 4
"""Views rendered at once; bounds memory."""


def modes(render: Render) -> dict[str, Float[Tensor, "views height width 3"]]:
    """Return what is shown of each view: colour, normals as colours, opacity.

    The normal of a render is weighted by opacity, so (n + alpha) / 2 is its usual colour over
    black; white is added behind it.
    """
    assert render.normal is not None
    alpha = render.alpha
    normal = (render.normal + alpha) / 2 + (1 - alpha)
    return {"rgb": render.rgb, "normal": normal, "opacity": alpha.expand_as(normal)}


def draw(
    render: Callable[[Cameras], Render], cameras: Cameras, moved: Moved, part: str
) -> dict[str, UInt8[ndarray, "views height width 3"]]:
    """Render all views, a few at a time, in every mode, as bytes."""
    parts: dict[str, list[ndarray]] = {}
    for start in range(0, len(cameras), CHUNK):
        for name, images in modes(render(cameras[start : start + CHUNK])).items():
            parts.setdefault(name, []).append(to_bytes(images.cpu().numpy()))
        moved(min(start + CHUNK, len(cameras)) / len(cameras), part)
    return {name: np.concatenate(images) for name, images in parts.items()}


def field_renderer(stage: Stage, size: int) -> Callable[[Cameras], Render]:
    """Return a function that renders the trained field over white, with normals."""
    white = torch.ones(3, device=stage.device)
    return lambda cameras: stage.render(cameras, size, size, normals=True, background=white)


def mesh_renderer(glb: Path, size: int) -> Callable[[Cameras], Render]:
    """Return a function that renders an exported GLB, put back where the field was."""
    mesh = load_glb(glb, undo_placement=True)
    return lambda cameras: render_mesh(mesh, cameras, size, size)


def write_sheet(stage: Stage, path: Path, moved: Moved) -> None:
    """Write the contact sheet: azimuths from the front round, by rgb, normal and opacity."""
    cameras = stage.view_around(SHEET_VIEWS)
    images = draw(field_renderer(stage, SHEET_SIZE), cameras, moved, "contact sheet")
    azimuths = [f"{360 * i // SHEET_VIEWS} deg" for i in range(SHEET_VIEWS)]
    sheet = tile(
        [list(views) for views in images.values()],
        row_labels=list(images),
        column_labels=azimuths,
        cell=SHEET_SIZE,
    )
    save(sheet, path)


def write_turntable(
    stage: Stage, glb: Path | None, path: Path, moved: Moved
) -> Literal["exported mesh", "trained field"]:
    """Write the turntable video, colour beside normals; return what it shows.

    Args:
        stage: where the cameras come from, and the field if there is no GLB.
        glb: the exported model.
        path: of the video.
        moved: is told how much is done.
    """
    render = field_renderer(stage, FIELD_SIZE) if glb is None else mesh_renderer(glb, MESH_SIZE)
    images = draw(render, stage.view_around(FRAMES), moved, "turntable")
    frames = np.concatenate([images["rgb"], images["normal"]], axis=2)
    write_video(path, list(frames), fps=FRAMES_PER_SECOND)
    return "trained field" if glb is None else "exported mesh"
