"""Run folders as a finished, a running and a failed job leave them, without any model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from queued_runs import queued_run

from dreamlab.core.pictures import save, tile
from dreamlab.core.run_folder import RunFolder, write_json, write_text

STAGES = {"gaussians": 20, "mesh": 10}
CONFIG = {
    "prompt": "a ball",
    "negative_prompt": "",
    "seed": 0,
    "recipe": "toybox",
    "quality": "draft",
    "stages": {name: {"steps": steps, "lr": 0.1} for name, steps in STAGES.items()},
}
REPORT = {
    "seconds": {"gaussians": 60.0, "total": 65.0},
    "stages": {"gaussians": {"steps": 20, "steps_per_second": 0.5, "metrics": {}}},
    "memory": {"rss_gb": 1.25},
    "export": {
        "faces": 12345,
        "vertices": 6000,
        "watertight": True,
        "silhouette_iou": 0.987,
        "unwrap_method": "box",
        "valid": True,
        "checks": [{"name": "unit normals", "passed": True, "found": "1.0"}],
    },
}


def write_config(folder: RunFolder, **changes: Any) -> None:
    """Write a config.yaml; JSON is YAML."""
    write_text(folder.config, json.dumps(CONFIG | changes))


def sheet(columns: int = 4) -> Image.Image:
    """Return a contact sheet: view j is one flat colour, 20 j red."""
    views = [np.full((8, 8, 3), (20 * j, 200, 90), dtype=np.uint8) for j in range(columns)]
    labels = [f"{j} deg" for j in range(columns)]
    names = ["rgb", "normal", "opacity"]
    return tile([views] * 3, row_labels=names, column_labels=labels)


def running_run(parent: Path, prompt: str = "a blue vase", **fields: Any) -> RunFolder:
    """Make a run that has come to step 5 of its first stage."""
    folder = queued_run(parent, prompt, phase="gaussians", quality="draft", **fields)
    write_config(folder, prompt=prompt)
    folder.append_event("phase", phase="load prior", steps=None)
    folder.append_event("phase_done", phase="load prior", seconds=3.0)
    folder.append_event("phase", phase="gaussians", steps=20)
    for step in range(1, 6):
        folder.append_event(
            "step",
            stage="gaussians",
            step=step,
            steps=20,
            loss=10.0 / step,
            metrics={},
            rate=2.0,
            eta=12.5,
            memory_gb=0.5 + step / 10,
        )
    save(sheet(), folder.previews / "000005.webp")
    write_text(folder.log, "first line\nlast line\n")
    return folder


def finished_run(parent: Path, prompt: str = "a red ball", **fields: Any) -> RunFolder:
    """Make a run that is done, with everything that it leaves but real models."""
    folder = queued_run(parent, prompt, state="done", quality="draft", finished=1.0, **fields)
    write_config(folder, prompt=prompt, seed=fields.get("seed", 0))
    for name, steps in STAGES.items():
        folder.append_event("phase", phase=name, steps=steps)
        for step in range(1, steps + 1):
            folder.append_event("step", stage=name, step=step, steps=steps, loss=1.0 / step)
        folder.append_event("phase_done", phase=name, seconds=30.0)
    save(sheet(8), folder.preview)
    write_json(folder.report, REPORT)
    for path in (folder.turntable, folder.exports / "model.glb"):
        path.write_bytes(b"not looked into")
    return folder
