"""The fixed views that ToyBench looks from, and how it lights what it sees.

Distances and fields of view are the middle of what the prior was trained on; so are light and
background of the pictures for the judge. The world is that of `dreamlab.core.cameras`: z up,
azimuth 0 sees the front.
"""

from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras, turntable_cameras
from dreamlab.core.mesh import Mesh
from dreamlab.ops.triangles.raycast import render_mesh
from dreamlab.priors.toybox.judge.network import IMAGE_SIZE
from dreamlab.priors.toybox.world.views import RANGES

DISTANCE = sum(RANGES.distance) / 2
FOV_Y = sum(RANGES.fov_y) / 2
AMBIENT = sum(RANGES.ambient) / 2
ELEVATION = 15.0
"""Of the pictures for the judge and for people, degrees."""
LIGHT_LIFT = 0.5
"""The light is that much above the camera, in units of the camera's distance."""
BACKGROUND = (0.80, 0.88, 0.94)
"""Behind the pictures for the judge: a pale blue (sRGB) that is none of the twelve colours."""
NUM_AZIMUTHS = 16
SUPERSAMPLE = 2


def shape_cameras() -> Cameras:
    """Return the 16 views that shapes and colours are compared in: 8 level ones, 8 from above."""
    level = turntable_cameras(8, elevation=0.0, distance=DISTANCE, fov_y=FOV_Y)
    above = turntable_cameras(8, elevation=35.0, distance=DISTANCE, fov_y=FOV_Y)
    return Cameras(
        **{
            f.name: torch.cat([getattr(level, f.name), getattr(above, f.name)])
            for f in fields(Cameras)
        }
    )


def judge_cameras() -> Cameras:
    """Return the 16 views that the judge is shown: once around, the first one sees the front."""
    return turntable_cameras(NUM_AZIMUTHS, elevation=ELEVATION, distance=DISTANCE, fov_y=FOV_Y)


def lights(cameras: Cameras) -> Float[Tensor, "batch 3"]:
    """Return unit vectors to lights above the cameras."""
    toward = torch.nn.functional.normalize(cameras.position, dim=-1)
    toward = toward + torch.tensor([0.0, 0.0, LIGHT_LIFT])
    return torch.nn.functional.normalize(toward, dim=-1)


def portraits(
    mesh: Mesh, cameras: Cameras, size: int = IMAGE_SIZE
) -> Float[Tensor, "batch size size 3"]:
    """Render a mesh as training images show objects, sRGB in [0, 1]."""
    render = render_mesh(
        mesh,
        cameras,
        size,
        size,
        supersample=SUPERSAMPLE,
        light_direction=lights(cameras),
        ambient=AMBIENT,
        background=BACKGROUND,
    )
    return render.rgb
