"""A ball with a material, and its export."""

from pathlib import Path

import torch
from soft_shapes import EXTRAS, views
from triangle_views import sphere

from dreamlab.core.protocols import Material
from dreamlab.core.triangles import Triangles
from dreamlab.export.pipeline import ExportConfig, ExportReport, export_model
from dreamlab.ops.triangles.raycast import silhouette
from dreamlab.ops.volume.threshold import SilhouetteReference

TEXTURE_SIZE = 256


class ShinyBall:
    """A ball whose material is a function of the place."""

    half_extent, has_material = 1.0, True

    def __init__(self, bumps: bool = True):
        self.bumps = bumps

    def triangles(self):
        vertices, tri = sphere(3)
        return Triangles(0.6 * vertices, tri)

    def albedo(self, points):
        return 0.5 + 0.4 * points

    color_at = albedo

    def material(self, points):
        bump = 0.5 * torch.cos(5 * points) if self.bumps else None
        roughness, metallic = 0.5 + 0.5 * points[:, 2:], 0.45 + 0.5 * points[:, :1]
        return Material(self.albedo(points), metallic, roughness, bump)

    def parameter_groups(self):
        return {}

    def regularisers(self):
        return {}

    def set_progress(self, progress): ...

    def state_dict(self):
        return {}

    def load_state_dict(self, state_dict): ...


def export_ball(folder: Path, shape: ShinyBall) -> ExportReport:
    alpha = silhouette(shape.triangles().to_mesh(), views(), 64, 64).float()
    config = ExportConfig(
        formats=("glb", "obj"), max_faces=1200, texture_size=TEXTURE_SIZE, smoothing=0, unwrap="box"
    )
    return export_model(
        shape, SilhouetteReference(views(), alpha), config, folder, name="ball", extras=EXTRAS
    )
