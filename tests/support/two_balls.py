"""Two balls with an atlas, and their export as the two objects of a layout."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from soft_shapes import EXTRAS, octant_color, views

from dreamlab.core.layout import Box, Layout
from dreamlab.core.mesh import Mesh
from dreamlab.core.triangles import Triangles
from dreamlab.export.pipeline import ExportConfig, ExportReport, export_model
from dreamlab.ops.mesh.bake import bake
from dreamlab.ops.mesh.clean import vertex_normals
from dreamlab.ops.mesh.unwrap import unwrap
from dreamlab.ops.triangles.raycast import silhouette
from dreamlab.ops.volume.threshold import SilhouetteReference

SIZE = (0.7, 0.7, 0.7)
PAIR = Layout(
    (Box("a red ball", (0.0, -0.4, 0.0), SIZE), Box("a blue ball", (0.0, 0.4, 0.0), SIZE))
)
TEXELS = 128
NAMES = ["a-red-ball", "a-blue-ball"]


class Ready:
    """A mesh with an atlas of its own, which the export writes as it is."""

    half_extent = 1.0

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = replace(mesh, normals=vertex_normals(mesh).astype(np.float32))
        cut = unwrap(self.mesh, method="box", texture_size=TEXELS, time_limit=1.0).mesh
        texture, _ = bake(cut, octant_color, TEXELS)
        self.painted = replace(cut, texture=texture)

    def triangles(self) -> Triangles:
        faces = torch.from_numpy(self.mesh.faces.astype(np.int32))
        return Triangles(torch.from_numpy(self.mesh.vertices), faces)

    def painted_mesh(self) -> Mesh:
        return self.painted

    def color_at(self, points: torch.Tensor) -> torch.Tensor:
        return octant_color(points)

    def parameter_groups(self) -> dict:
        return {}

    def regularisers(self) -> dict:
        return {}

    def set_progress(self, progress: float) -> None: ...

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state_dict: dict) -> None: ...


@dataclass
class Made:
    folder: Path
    report: ExportReport

    @property
    def glb(self) -> Path:
        return self.folder / "model.glb"


def spheres(*balls: tuple[float, float], detail: int = 2) -> Mesh:
    """Balls by their radius and their y."""
    model = trimesh.util.concatenate(
        [trimesh.creation.icosphere(detail, r).apply_translation((0, y, 0)) for r, y in balls]
    )
    return Mesh(model.vertices.astype(np.float32), model.faces.astype(np.int64))


APART = spheres((0.3, -0.4), (0.25, 0.4))


def export(mesh: Mesh, folder: Path, layout: Layout | None = PAIR, **settings) -> Made:
    cameras = views(4)
    reference = SilhouetteReference(cameras, silhouette(mesh, cameras, 32, 32).float())
    report = export_model(
        Ready(mesh),
        reference,
        ExportConfig(**settings),
        folder,
        name="Two balls",
        extras=EXTRAS,
        layout=layout,
    )
    return Made(folder, report)
