"""Painted meshes for tests, and a truth that went through the exporter."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree

from dreamlab.core.mesh import Mesh
from dreamlab.core.run_folder import RunFolder
from dreamlab.evaluation.child import Outcome, write_outcome
from dreamlab.evaluation.prompts import all_prompts
from dreamlab.evaluation.toybench import prompt_folder
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.writers import write_glb
from dreamlab.ops.mesh.bake import bake
from dreamlab.ops.mesh.clean import remove_degenerate, vertex_normals
from dreamlab.ops.mesh.simplify import simplify
from dreamlab.ops.mesh.unwrap import unwrap

RED, GREEN, BLUE, WHITE = (0.9, 0.1, 0.1), (0.1, 0.6, 0.1), (0.1, 0.1, 0.9), (1.0, 1.0, 1.0)


def painted(shape: trimesh.Trimesh, color: tuple[float, float, float] = RED) -> Mesh:
    return Mesh(
        np.asarray(shape.vertices, np.float32),
        np.asarray(shape.faces, np.int64),
        colors=np.tile(np.float32(color), (len(shape.vertices), 1)),
    )


def sphere(radius: float, color: tuple[float, float, float] = RED) -> Mesh:
    return painted(trimesh.creation.icosphere(subdivisions=4, radius=radius), color)


def moved(mesh: Mesh, scale: float, offset: tuple[float, float, float]) -> Mesh:
    return replace(mesh, vertices=(scale * mesh.vertices + np.float32(offset)).astype(np.float32))


def export_truth(number: int, path: Path, resolution: int = 64) -> None:
    """Write the true mesh of a bench prompt the way a generated one is written."""
    prompt = all_prompts()[number]
    truth = prompt.truth(resolution)
    assert truth.colors is not None
    tree, colors = cKDTree(truth.vertices), torch.from_numpy(truth.colors).float()
    mesh = simplify(remove_degenerate(Mesh(truth.vertices, truth.faces)), 6000)
    mesh = replace(mesh, normals=vertex_normals(mesh))
    cut = unwrap(mesh, method="box", texture_size=512, time_limit=1.0).mesh
    texture, _ = bake(
        cut, lambda points: colors[torch.from_numpy(tree.query(points.numpy())[1])], 512
    )
    placement = Placement.on_ground(mesh, 1.0)
    write_glb(path, replace(cut, texture=texture), placement, name="truth", extras={})


def fake_done_prompt(folder: Path, number: int) -> None:
    """Leave a bench prompt as if the command line had made the truth itself."""
    place = prompt_folder(folder, number)
    run = RunFolder(place / "run")
    run.exports.mkdir(parents=True)
    run.config.write_text("prompt: x\n")
    report = {
        "seconds": {"nerf": 10.0, "export": 2.0, "total": 12.5},
        "export": {"silhouette_iou": 0.98},
    }
    run.report.write_text(json.dumps(report))
    export_truth(number, run.exports / "model.glb")
    write_outcome(place, Outcome(0, 20.0, 1.5, "run", ""))
