"""Draw docs/images/materials.png: balls of rising roughness under each environment."""

from pathlib import Path
from typing import get_args

import torch
import trimesh

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.pictures import save, tile, to_bytes
from dreamlab.core.protocols import Material
from dreamlab.core.triangles import Triangles
from dreamlab.renderers.background import BackgroundConfig
from dreamlab.renderers.environments import EnvironmentName
from dreamlab.renderers.mesh import Config, MeshRenderer
from dreamlab.renderers.pbr import Surroundings, load_environment
from dreamlab.renderers.shading import Shading

SIZE = 80
ROUGHNESS = (0.1, 0.3, 0.5, 0.7, 1.0)
PAINTS = {"plastic": (0.0, (0.8, 0.25, 0.2)), "metal": (1.0, (0.95, 0.8, 0.45))}
CAMERA = turntable_cameras(1, elevation=10.0, distance=5.0, fov_y=22.0)
GREY = Config(background=BackgroundConfig(name="solid", color=(0.5, 0.5, 0.5)))


class Ball:
    """A ball of one material."""

    half_extent, has_material = 1.0, True

    def __init__(self, color, metallic, roughness):
        model = trimesh.creation.icosphere(subdivisions=4, radius=0.9)
        self.mesh = Triangles(torch.tensor(model.vertices).float(), torch.tensor(model.faces))
        self.color, self.surface = torch.tensor(color), torch.tensor([metallic, roughness])

    def triangles(self):
        return self.mesh

    def albedo(self, points):
        return self.color.expand_as(points)

    def material(self, points):
        return Material(self.albedo(points), *self.surface.expand(len(points), 2).split(1, dim=1))


def draw(ball, environment):
    """Return the ball as bytes, drawn at twice the size that is shown."""
    light = load_environment(environment, torch.device("cpu"))
    around = Surroundings(light, 1.0, torch.zeros(1))
    shading = Shading("pbr", torch.zeros(1, 3), torch.ones(1), around)
    render = MeshRenderer(GREY, ball)(CAMERA, 2 * SIZE, 2 * SIZE, shading=shading, training=False)
    return to_bytes(render.rgb[0].numpy())


def main():
    """Write the picture beside this file."""
    kinds = [(name, paint) for name in get_args(EnvironmentName) for paint in PAINTS]
    rows = [
        [draw(Ball(PAINTS[paint][1], PAINTS[paint][0], r), name) for r in ROUGHNESS]
        for name, paint in kinds
    ]
    sheet = tile(
        rows,
        row_labels=[f"{name} {paint}" for name, paint in kinds],
        column_labels=[f"roughness {r}" for r in ROUGHNESS],
        cell=SIZE,
    )
    save(sheet, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
