"""Maximum-intensity projection of a sampled field: the largest value that each pixel's ray meets.

    m(p) = max over t of v(o + t d)

with v interpolated trilinearly between nodes. Nothing here has a gradient.

Glossary: `values` v at R^3 nodes that span the cube [-h, h]^3, axes in order x, y, z, first and
last node on its faces; `o`, `d` origin and direction of a ray.

Source: Wallis et al., "Three-dimensional display in nuclear medicine", 1989.
"""

from typing import no_type_check

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.ops.warp_setup import launch_split

wp.set_module_options({"enable_backward": False})


@wp.func
@no_type_check
def _trilinear(values: wp.array(dtype=wp.float32, ndim=3), p: wp.vec3, last: int):
    """Interpolate at p, in node units; p is clamped to the grid."""
    x = wp.clamp(p[0], 0.0, wp.float32(last))
    y = wp.clamp(p[1], 0.0, wp.float32(last))
    z = wp.clamp(p[2], 0.0, wp.float32(last))
    i = wp.min(wp.int32(x), last - 1)
    j = wp.min(wp.int32(y), last - 1)
    k = wp.min(wp.int32(z), last - 1)
    fx = x - wp.float32(i)
    fy = y - wp.float32(j)
    fz = z - wp.float32(k)
    v00 = wp.lerp(values[i, j, k], values[i, j, k + 1], fz)
    v01 = wp.lerp(values[i, j + 1, k], values[i, j + 1, k + 1], fz)
    v10 = wp.lerp(values[i + 1, j, k], values[i + 1, j, k + 1], fz)
    v11 = wp.lerp(values[i + 1, j + 1, k], values[i + 1, j + 1, k + 1], fz)
    return wp.lerp(wp.lerp(v00, v01, fy), wp.lerp(v10, v11, fy), fx)


@wp.kernel(enable_backward=False)
@no_type_check
def _project_kernel(
    start: wp.int32,
    values: wp.array(dtype=wp.float32, ndim=3),
    half_extent: wp.float32,
    last: wp.int32,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    maximum: wp.array(dtype=wp.float32),
):
    ray = start + wp.tid()
    o = origins[ray]
    d = directions[ray]
    near = wp.float32(0.0)
    far = wp.float32(1.0e6)
    for axis in range(3):  # slab test
        speed = wp.where(wp.abs(d[axis]) < 1.0e-9, 1.0e-9, d[axis])
        first = (-half_extent - o[axis]) / speed
        second = (half_extent - o[axis]) / speed
        near = wp.max(near, wp.min(first, second))
        far = wp.min(far, wp.max(first, second))
    result = wp.float32(0.0)
    if near < far:
        scale = wp.float32(last) / (2.0 * half_extent)
        steps = wp.int32((far - near) * scale) + 1
        shift = wp.vec3(half_extent, half_extent, half_extent)
        for i in range(steps + 1):
            t = wp.lerp(near, far, wp.float32(i) / wp.float32(steps))
            result = wp.max(result, _trilinear(values, (o + t * d + shift) * scale, last))
    maximum[ray] = result


def project_maximum(
    values: Float[Tensor, "resolution resolution resolution"],
    half_extent: float,
    cameras: Cameras,
    height: int,
    width: int,
) -> Float[Tensor, "batch height width 1"]:
    """Return the largest value along the ray of every pixel, 0 where it misses the cube.

    Rays are sampled at every grid spacing.

    Args:
        values: at the nodes of the cube, >= 0; on the cameras' device.
        half_extent: h, world units.
        cameras: views.
        height: pixels.
        width: pixels.
    """
    rays = (x.reshape(-1, 3).float().contiguous() for x in cameras.rays(height, width))
    grid = values.detach().float().contiguous()
    maximum = torch.zeros(len(cameras) * height * width, device=grid.device)
    inputs = [grid, half_extent, values.shape[0] - 1, *rays, maximum]
    launch_split(_project_kernel, len(maximum), inputs, grid.device)
    return maximum.reshape(len(cameras), height, width, 1)
