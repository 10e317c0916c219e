"""Draw docs/images/rule-*.png: what each rule of guidance makes of a picture, or of an object.

Each strip is one `dreamlab image`; all have the same prompt, seed and number of steps. For `dds`,
which changes what there is, an object of the same prompt is made and edited to another one. The
commands stand beside the pictures in docs/guidance.md.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.mesh import Mesh
from dreamlab.core.pictures import save, tile, to_bytes
from dreamlab.evaluation.views import DISTANCE, FOV_Y, portraits
from dreamlab.export.files.reload import load_glb

PROMPT = "a red mushroom"
STAGE = "stages.image.guidance"
RULES: dict[str, list[str]] = {
    "sds": [],
    "csd": [f"{STAGE}.scale=8"],
    "nfsd": [f"{STAGE}.scale=8", "--negative", "a grey cube"],
    "ssd": [
        f"{STAGE}.scale=8",
        f"{STAGE}.timesteps.t_min={{from: 0.85, to: 0.02, begin: 0.4}}",
        f"{STAGE}.timesteps.t_max={{from: 0.96, to: 0.1, begin: 0.4}}",
    ],
    "asd": [f"{STAGE}.guidance_scale=8"],
    "ism": [f"{STAGE}.guidance_scale=8"],
    "sdi": [
        f"{STAGE}.guidance_scale=5",
        f"{STAGE}.inversion_scale=-5",
        f"{STAGE}.inversion_steps=5",
        f"{STAGE}.timesteps={{policy: linear, t_min: 0.5, t_max: 0.95}}",
    ],
    "rfds_rev": [f"{STAGE}.guidance_scale=8"],
    "vsd": [f"{STAGE}.guidance_scale=5", f"{STAGE}.learning_rate=0.001"],
    "sdedit": [
        f"{STAGE}.guidance_scale=5",
        f"{STAGE}.t_start={{from: 0.95, to: 0.2}}",
        f"{STAGE}.num_steps=10",
    ],
}


EDITED = "a blue mushroom"
VIEWS, CELL = 6, 128


def main(names: list[str]) -> None:
    """Draw the rules that are named, all by default."""
    for name in names or [*RULES, "dds"]:
        path = Path(__file__).with_name(f"rule-{name}.png")
        with tempfile.TemporaryDirectory() as folder:
            if name == "dds":
                edit(Path(folder), path)
            else:
                run("image", PROMPT, "--guidance", name, *RULES[name], "--output", folder)
                (strip,) = Path(folder).glob("*/strip.png")
                shutil.copy(strip, path)


def run(*words: str) -> None:
    """Run a command of dreamlab."""
    subprocess.run([sys.executable, "-m", "dreamlab", *words, "--quiet"], check=True)


def edit(folder: Path, path: Path) -> None:
    """Make an object, change it by `dds`, and draw both from all around."""
    run("generate", PROMPT, "--output", str(folder / "before"))
    before = exported(folder / "before")
    edit = "stages.edit"
    settings = [f"{edit}.start_from={before}", f"{edit}.guidance.reference_prompt={PROMPT}"]
    run("generate", EDITED, "--recipe", "toybox-edit", *settings, "--output", str(folder / "after"))
    draw(before, exported(folder / "after"), path)


def draw(before: Path, after: Path, path: Path) -> None:
    """Draw two models, a row each."""
    cameras = turntable_cameras(VIEWS, elevation=15.0, distance=DISTANCE, fov_y=FOV_Y)
    models = [load_glb(glb, undo_placement=True) for glb in (before, after)]
    models[0] = fitted(*models)
    rows = [list(to_bytes(portraits(model, cameras, CELL).numpy())) for model in models]
    save(tile(rows, row_labels=["before", "after"], cell=CELL), path)


def fitted(mesh: Mesh, other: Mesh) -> Mesh:
    """Bring a mesh to where a stage that starts from it has it: to the bounds of what it became."""
    (low, high), (low_there, high_there) = mesh.bounds, other.bounds
    scale = (high_there - low_there).max() / (high - low).max()
    return replace(mesh, vertices=low_there + scale * (mesh.vertices - low))


def exported(folder: Path) -> Path:
    """Return the model of the only run in a folder."""
    (glb,) = folder.glob("*/exports/model.glb")
    return glb


if __name__ == "__main__":
    main(sys.argv[1:])
