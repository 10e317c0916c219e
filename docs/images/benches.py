"""Draw docs/images/NAME-*.webp: what recipes make of ToyBench's prompts, side by side.

    dreamlab bench toybench --output runs/toybench
    dreamlab bench toybench --recipe toybox-mesh --output runs/toybench-mesh
    python docs/images/benches.py representations runs/toybench runs/toybench-mesh

A row for each prompt that was made in all of the folders, seen ones in NAME-seen.webp, held-out
ones in NAME-held-out.webp; views of each model from two sides, the true one first.
"""

import sys
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.mesh import Mesh
from dreamlab.core.pictures import save, tile, to_bytes
from dreamlab.core.run_folder import slug
from dreamlab.evaluation.prompts import BenchPrompt
from dreamlab.evaluation.toybench import load_rows
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


def main(name: str, folders: list[Path]) -> None:
    """Write the pictures beside this file."""
    benches = [load_rows(folder) for folder in folders]
    titles = ["true", *(title.replace(", quality standard, seed 0", "") for title, _ in benches)]
    labels = [title.removeprefix("recipe ") if i == 0 else "" for title in titles for i in range(2)]
    common = set.intersection(*({row.prompt for row in rows} for _, rows in benches))
    for group in ("seen", "held-out"):
        prompts = [
            row.prompt
            for row in benches[0][1]
            if row.prompt in common and row.prompt.held_out == (group == "held-out")
        ]
        if prompts:
            rows = [
                [*look(one.truth()), *(view for f in folders for view in made(f, one))]
                for one in prompts
            ]
            texts = [one.text for one in prompts]
            picture = tile(rows, row_labels=texts, column_labels=labels, cell=CELL)
            save(picture, Path(__file__).with_name(f"{name}-{group}.webp"))


if __name__ == "__main__":
    main(sys.argv[1], [Path(folder) for folder in sys.argv[2:]])
