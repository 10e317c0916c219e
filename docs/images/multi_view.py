"""Draw docs/images/multi-view.webp: a prompt by a prior of single views and by one of four.

    dreamlab generate "a purple television" --recipe toybox-nerf --output runs/one
    dreamlab generate "a purple television" --recipe toybox-mvdream --output runs/four
    python docs/images/multi_view.py runs/one/* runs/four/*

A row for each run, its model from the front and on around it.
"""

import json
import sys
from pathlib import Path

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.pictures import save, tile, to_bytes
from dreamlab.evaluation.views import DISTANCE, ELEVATION, FOV_Y, portraits
from dreamlab.export.files.reload import load_glb

VIEWS, CELL = 6, 128


def main(runs: list[Path]) -> None:
    """Write the picture beside this file."""
    around = turntable_cameras(VIEWS, elevation=ELEVATION, distance=DISTANCE, fov_y=FOV_Y)
    rows, names = [], []
    for run in runs:
        model = load_glb(run / "exports" / "model.glb", undo_placement=True)
        rows.append(list(to_bytes(portraits(model, around, 2 * CELL).numpy())))
        names.append(json.loads((run / "report.json").read_text("utf-8"))["recipe"])
    columns = [f"{round(360 / VIEWS * view)}°" for view in range(VIEWS)]
    sheet = tile(rows, row_labels=names, column_labels=columns, cell=CELL)
    save(sheet, Path(__file__).with_name("multi-view.webp"))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
