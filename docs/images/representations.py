"""Draw docs/images/representations-*.webp: what recipes make of ToyBench's prompts, side by side.

    dreamlab bench toybench --output runs/toybench
    dreamlab bench toybench --recipe toybox-mesh --output runs/toybench-mesh
    python docs/images/representations.py runs/toybench runs/toybench-mesh

A row for each prompt, seen ones in one picture, held-out ones in the other; two views of each
model, the true one first.
"""

import json
import sys
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.mesh import Mesh
from dreamlab.core.pictures import save, tile, to_bytes
from dreamlab.core.run_folder import slug
from dreamlab.evaluation.prompts import BenchPrompt, bench_prompts
from dreamlab.evaluation.views import DISTANCE, ELEVATION, FOV_Y, portraits
from dreamlab.export.files.reload import load_glb

CELL = 88
SIDES = slice(1, 6, 4)
"""Of twelve around: right of the front, and from behind."""

Views = UInt8[ndarray, "views size size 3"]


def look(mesh: Mesh) -> Views:
    """Draw a model from the two sides."""
    around = turntable_cameras(12, elevation=ELEVATION, distance=DISTANCE, fov_y=FOV_Y)
    return to_bytes(portraits(mesh, around[SIDES], 2 * CELL).numpy())


def made(folder: Path, prompt: BenchPrompt) -> Views:
    """Draw the model of a prompt."""
    (glb,) = folder.glob(f"prompts/??-{slug(prompt.text)}/*/exports/model.glb")
    return look(load_glb(glb, undo_placement=True))


def main(folders: list[Path]) -> None:
    """Write the pictures beside this file."""
    settings = [json.loads((folder / "settings.json").read_text("utf-8")) for folder in folders]
    names = ["true", *(one["recipe"] for one in settings)]
    labels = [name if i == 0 else "" for name in names for i in range(2)]
    for group in ("seen", "held-out"):
        prompts = [one for one in bench_prompts() if one.held_out == (group == "held-out")]
        rows = [
            [*look(one.truth()), *(view for f in folders for view in made(f, one))]
            for one in prompts
        ]
        picture = tile(
            rows, row_labels=[one.text for one in prompts], column_labels=labels, cell=CELL
        )
        save(picture, Path(__file__).with_name(f"representations-{group}.webp"))


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:]])
