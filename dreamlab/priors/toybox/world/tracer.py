"""Images of packed scenes by sphere tracing, on the CPU.

Shading is Lambert plus ambient, computed directly on sRGB values as DreamFusion-type renderers do:

    rgb = albedo * (ambient + (1 - ambient) * max(0, n . l)),    albedo in sRGB

without shadows or occlusion, so that a field can reproduce an image from albedo and normal alone.
Pixels average `samples`^2 rays, which also smooths silhouettes and patterns.
"""

from typing import Any

import numpy as np
import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.render import Render
from dreamlab.ops.warp_setup import launch_split
from dreamlab.priors.toybox.world import kernels
from dreamlab.priors.toybox.world.scenes import PackedScenes

_FIELDS = {
    "start": wp.int32,
    "shape": wp.int32,
    "center": wp.vec3,
    "to_local": wp.mat33,
    "size": wp.vec3,
    "ratio": wp.float32,
    "reach": wp.float32,
    "color": wp.vec3,
    "partner": wp.vec3,
    "pattern": wp.int32,
    "anchor": wp.vec3,
}


def device_parts(packed: PackedScenes) -> Any:
    """Hand packed scenes to the kernels, as a `kernels.Parts`."""
    parts = kernels.Parts()
    for name, dtype in _FIELDS.items():
        setattr(parts, name, wp.array(getattr(packed, name), dtype=dtype, device="cpu"))
    return parts


def trace(
    packed: PackedScenes,
    cameras: Cameras,
    *,
    size: int,
    light: Float[Tensor, "batch 3"],
    ambient: Float[Tensor, " batch"],
    background: Float[Tensor, "batch 3"],
    samples: int = 2,
) -> Render:
    """Render square images, one per camera.

    Args:
        packed: as many scenes as cameras, or one scene that all cameras look at.
        cameras: where from; any device, the images are on the CPU.
        size: image height and width, pixels.
        light: unit directions towards the light, world space.
        ambient: share of light that comes from everywhere, in [0, 1]; the rest is diffuse.
        background: sRGB in [0, 1].
        samples: rays per pixel and axis.

    Returns:
        rgb, alpha, depth and world normal; see `core.render`. Not differentiable.
    """
    num_views = len(cameras)
    if len(packed) not in (1, num_views):
        raise ValueError(f"got {len(packed)} scenes for {num_views} cameras; want 1 or as many")
    scene = np.arange(num_views) if len(packed) == num_views else np.zeros(num_views)
    rgb, normal = torch.zeros(2, num_views, size, size, 3)
    alpha, depth = torch.zeros(2, num_views, size, size, 1)
    tangent = torch.tan(torch.deg2rad(cameras.fov_y.cpu()) / 2)
    arguments = [
        device_parts(packed),
        torch.from_numpy(scene.astype(np.int32)),
        *(_plain(t) for t in (cameras.camera_to_world, tangent, light, ambient, background)),
        size,
        samples,
        *(rgb, alpha, normal, depth),
    ]
    launch_split(kernels.trace_pixels, num_views * size * size, arguments, "cpu")
    return Render(rgb=rgb, alpha=alpha, depth=depth, normal=normal)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().float().contiguous()
