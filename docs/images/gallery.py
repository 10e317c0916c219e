"""Draw docs/images/gallery.png: twelve models of a ToyBench, larger than on its sheets.

    dreamlab bench toybench --output runs/toybench
    python docs/images/gallery.py runs/toybench

They are those that a friend would be shown; all 48 are in docs/benchmarks.md.
"""

import sys
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray

from dreamlab.core.cameras import Cameras, turntable_cameras
from dreamlab.core.pictures import save, tile, to_bytes
from dreamlab.core.run_folder import slug
from dreamlab.evaluation.views import DISTANCE, FOV_Y, portraits
from dreamlab.export.files.reload import load_glb

SHOWN = (
    "an orange flower",
    "a pink ice cream",
    "a purple television",
    "a red cat on top of a black table",
    "a black candle",
    "a blue airplane",
    "a purple lamp",
    "a brown cake next to a red rounded cube",
    "a dotted blue and purple trophy",
    "a cyan snowman",
    "a green clock",
    "a striped black and cyan ellipsoid",
)
COLUMNS, CELL = 6, 160
FINER = 2
"""Pictures are drawn so many times larger."""


def camera() -> Cameras:
    """Return a view from above and a little from the right of the front."""
    return turntable_cameras(12, elevation=15.0, distance=DISTANCE, fov_y=FOV_Y)[1:2]


def draw(folder: Path, prompt: str) -> UInt8[ndarray, "size size 3"]:
    """Draw the model of a prompt."""
    (glb,) = folder.glob(f"prompts/??-{slug(prompt)}/*/exports/model.glb")
    model = load_glb(glb, undo_placement=True)
    return to_bytes(portraits(model, camera(), FINER * CELL)[0].numpy())


def main(folder: Path) -> None:
    """Write the picture beside this file."""
    cells = [draw(folder, prompt) for prompt in SHOWN]
    rows = [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    save(tile(rows, cell=CELL), Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
