"""Claims about whole runs of the real command in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import save_tiny_pipeline

from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.priors.hub import find_local
from dreamlab.priors.load import resolve_model

pytestmark = pytest.mark.slow
TIME_LIMIT = 600
SMALL = (
    "stages.gaussians.milestones=[{until: 1.0, size: 16}]",
    "stages.mesh.milestones=[{until: 1.0, size: 16}]",
    "stages.mesh.steps=3",
    "stages.mesh.representation.resolution=12",
    "export.resolution=48",
    "export.max_faces=1500",
    "export.texture_size=256",
    "export.unwrap=box",
)
HAS_WEIGHTS = find_local(resolve_model("toybox").sources[0]) is not None


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return f"prior.model={save_tiny_pipeline(tmp_path_factory.mktemp('model'))}"


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start the command with JSON lines on its stdout; it is killed after the time limit."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "dreamlab", "--json", "--quiet", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment,
    )
    timer = threading.Timer(TIME_LIMIT, process.kill)
    timer.daemon = True
    timer.start()
    return process


def events_of(process: subprocess.Popen) -> Iterator[dict]:
    assert process.stdout is not None
    return map(json.loads, process.stdout)


def test_ctrl_c_stops_the_training_keeps_it_and_exports_it(tmp_path, model):
    arguments = ["generate", "a red mushroom", model, *SMALL, "stages.gaussians.steps=100000"]
    with start(tmp_path, *arguments) as process:
        seen = []
        for event in events_of(process):
            seen.append(event)
            if event["kind"] == "step" and event["step"] == 5:
                process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert "Traceback" not in process.stderr.read()
    assert seen[-1]["kind"] == "result" and seen[-1]["stopped"]
    assert all(Path(tmp_path / path).is_file() for path in seen[-1]["files"])
    folder = RunFolder.open(tmp_path / seen[-1]["folder"])
    assert state.read(folder).state == "stopped"
    assert folder.turntable.is_file() and (folder.checkpoints / "last.safetensors").is_file()


def test_a_run_that_was_killed_reads_as_failed_and_is_resumed_to_its_end(tmp_path, model):
    arguments = ["generate", "a red mushroom", model, *SMALL, "stages.gaussians.steps=40"]
    with start(tmp_path, *arguments) as process:
        for event in events_of(process):
            if event["kind"] == "run":
                root = tmp_path / event["folder"]
            if event["kind"] == "step" and event["step"] == 10:
                process.kill()
    folder = RunFolder.open(root)
    assert state.read(folder).state == "failed" and "killed" in state.read(folder).reason
    with start(tmp_path, "resume", str(root)) as process:
        *_, last = events_of(process)
        assert process.wait() == 0
    assert last["kind"] == "result" and not last["stopped"]
    assert state.read(folder).state == "done" and (folder.exports / "model.glb").is_file()


@pytest.mark.skipif(not HAS_WEIGHTS, reason="the embedded prior's weights are not in this tree")
def test_the_default_recipe_makes_a_red_mushroom_whose_glb_agrees_with_its_field(tmp_path):
    from dreamlab.export.files.reload import load_glb
    from dreamlab.jobs.recipes import load_run_config
    from dreamlab.ops.triangles.raycast import render_mesh
    from dreamlab.ops.volume.threshold import mean_iou
    from dreamlab.training.loop import load_trained

    with start(tmp_path, "generate", "a red mushroom", "--quality", "draft") as process:
        *_, last = events_of(process)
        assert process.wait() == 0
    folder = RunFolder.open(tmp_path / last["folder"])
    report = json.loads(folder.report.read_text())
    assert report["export"]["valid"] and report["export"]["silhouette_iou"] > 0.95
    config = load_run_config(folder.config)
    stage = load_trained(
        config.stages,
        prompt=config.prompt,
        negative_prompt=config.negative_prompt,
        seed=config.seed,
        folder=folder,
        device=torch.device("cpu"),
    ).stage
    cameras = stage.view_around(6, turned=17.0)
    field = stage.render(cameras, 128, 128, background=torch.ones(3))
    mesh = load_glb(folder.exports / "model.glb", undo_placement=True)
    model = render_mesh(mesh, cameras, 128, 128)
    assert mean_iou(field.alpha > 0.5, model.alpha > 0.5) > 0.95
    pixels = model.rgb[model.alpha[..., 0] > 0.9].numpy()
    red = (pixels[:, 0] > 0.5) & (pixels[:, 1:].max(axis=1) < 0.6 * pixels[:, 0])
    assert len(pixels) > 0.03 * np.prod(model.alpha.shape) and red.mean() > 0.25


@pytest.mark.skipif(not HAS_WEIGHTS, reason="the embedded prior's weights are not in this tree")
def test_a_texture_is_refined_and_written_as_it_is(tmp_path):
    small = (
        *SMALL,
        "stages.gaussians.steps=6",
        "stages.gaussians.representation.radius=0.5",
        "stages.gaussians.representation.opacity=0.5",
        "stages.refine.steps=3",
        "stages.refine.milestones=[{until: 1.0, size: 32}]",
        "stages.refine.representation.texture_size=128",
        "stages.refine.representation.unwrap=box",
    )
    arguments = ["generate", "a red mushroom", "--recipe", "toybox-refine", *small]
    with start(tmp_path, *arguments) as process:
        *_, last = events_of(process)
        assert process.wait() == 0
    report = json.loads((tmp_path / last["folder"] / "report.json").read_text())
    assert report["export"]["valid"] and report["export"]["unwrap_method"] is None
