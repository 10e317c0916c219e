"""Contact sheets: what was made beside the truth, from four sides."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.mesh import Mesh
from dreamlab.core.pictures import save, tile, to_bytes
from dreamlab.evaluation.prompts import BenchPrompt
from dreamlab.evaluation.views import DISTANCE, ELEVATION, FOV_Y, portraits

SIZE = 96
NUM_VIEWS = 4
FAILED = 160
"""Grey of the cells of a prompt that failed."""


@dataclass(frozen=True)
class Pictures:
    """A row of a sheet."""

    prompt: BenchPrompt
    ours: UInt8[ndarray, "views size size 3"]
    truth: UInt8[ndarray, "views size size 3"]


def take(prompt: BenchPrompt, mesh: Mesh | None, truth: Mesh) -> Pictures:
    """Photograph a mesh (None for one that failed) and the truth."""
    cameras = turntable_cameras(NUM_VIEWS, elevation=ELEVATION, distance=DISTANCE, fov_y=FOV_Y)
    true_images = to_bytes(portraits(truth, cameras, SIZE).numpy())
    ours = np.full_like(true_images, FAILED)
    if mesh is not None:
        ours = to_bytes(portraits(mesh, cameras, SIZE).numpy())
    return Pictures(prompt, ours, true_images)


def write(pictures: Sequence[Pictures], folder: Path) -> list[Path]:
    """Write one sheet of the seen prompts and one of the held-out ones, if there are any."""
    written: list[Path] = []
    azimuths = [f"{360 * view // NUM_VIEWS} deg" for view in range(NUM_VIEWS)]
    labels = [f"ours {azimuth}" for azimuth in azimuths] + [f"true {a}" for a in azimuths]
    for name, held_out in (("seen", False), ("held-out", True)):
        some = [row for row in pictures if row.prompt.held_out == held_out]
        if some:
            image = tile(
                [[*row.ours, *row.truth] for row in some],
                row_labels=[row.prompt.text for row in some],
                column_labels=labels,
                cell=SIZE,
            )
            written.append(folder / f"sheet-{name}.png")
            save(image, written[-1])
    return written
