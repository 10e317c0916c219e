# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Ray marching on Warp kernels: one pass counts the samples of each ray, a second writes them.

Glossary and formulas are those of `dreamlab.ops.volume.march`. An empty cell is left in one jump,
to the first stratum whose midpoint lies behind the cell; rounding may land a hair before that, in
which case the next look-up jumps again, so no occupied stratum is ever passed over.
"""

from typing import no_type_check

import torch
import warp as wp
from jaxtyping import Bool, Float
from torch import Tensor

from dreamlab.ops.volume.march import Samples, pack_offsets
from dreamlab.ops.warp_setup import launch_split

wp.set_module_options({"enable_backward": False})

FAR = wp.constant(1.0e30)
"""Stands for infinity, so that no product of it becomes NaN."""
SLACK = wp.constant(1.0e-3)
"""Fraction of a stratum by which a jump stops short, against rounding."""


@wp.struct
@no_type_check
class Ray:
    """A ray with the range in which it is inside the cube."""

    origin: wp.vec3
    direction: wp.vec3
    inverse: wp.vec3
    near: wp.float32
    far: wp.float32


@wp.func
@no_type_check
def inverse_of(x: wp.float32) -> wp.float32:
    """Return 1 / x, or something very large for 0."""
    if wp.abs(x) < 1.0e-30:
        return FAR
    return 1.0 / x


@wp.func
@no_type_check
def make_ray(origin: wp.vec3, direction: wp.vec3, low: wp.vec3, high: wp.vec3) -> Ray:
    """Intersect a ray with the box from `low` to `high`; far <= near is a miss."""
    ray = Ray()
    ray.origin = origin
    ray.direction = direction
    ray.near = wp.float32(0.0)
    ray.far = FAR
    for axis in range(3):
        ray.inverse[axis] = inverse_of(direction[axis])
        if direction[axis] == 0.0:
            if origin[axis] < low[axis] or origin[axis] > high[axis]:
                ray.far = wp.float32(-1.0)
        else:
            first = (low[axis] - origin[axis]) / direction[axis]
            second = (high[axis] - origin[axis]) / direction[axis]
            ray.near = wp.max(ray.near, wp.min(first, second))
            ray.far = wp.min(ray.far, wp.max(first, second))
    return ray


@wp.func
@no_type_check
def cell_index(
    x: wp.float32, per_unit: wp.float32, half: wp.float32, resolution: wp.int32
) -> wp.int32:
    """Return the cell of a coordinate along one axis."""
    return wp.clamp(wp.int32(wp.floor((x + half) * per_unit)), 0, resolution - 1)


@wp.func
@no_type_check
def is_occupied(
    point: wp.vec3, half: wp.float32, resolution: wp.int32, binary: wp.array(dtype=wp.bool)
) -> wp.bool:
    """Look up the cell of a point."""
    per_unit = wp.float32(resolution) / (2.0 * half)
    x = cell_index(point[0], per_unit, half, resolution)
    y = cell_index(point[1], per_unit, half, resolution)
    z = cell_index(point[2], per_unit, half, resolution)
    return binary[(x * resolution + y) * resolution + z]


@wp.func
@no_type_check
def leave_cell(ray: Ray, t: wp.float32, half: wp.float32, resolution: wp.int32) -> wp.float32:
    """Return where the ray leaves the cell that it is in at t."""
    size = 2.0 * half / wp.float32(resolution)
    leave = FAR
    for axis in range(3):
        if ray.direction[axis] != 0.0:
            x = ray.origin[axis] + t * ray.direction[axis]
            wall = wp.float32(cell_index(x, 1.0 / size, half, resolution))
            if ray.direction[axis] > 0.0:
                wall += 1.0
            leave = wp.min(leave, (wall * size - half - ray.origin[axis]) * ray.inverse[axis])
    return leave


@wp.func
@no_type_check
def stratum_after(ray: Ray, t: wp.float32, jitter: wp.float32, step: wp.float32) -> wp.int32:
    """Return the first stratum whose midpoint is not before t (up to `SLACK`)."""
    return wp.int32(wp.ceil(wp.min((t - ray.near) / step, 1.0e9) - jitter - SLACK))


@wp.kernel
@no_type_check
def sample_kernel(
    start: wp.int32,
    half: wp.float32,
    step: wp.float32,
    resolution: wp.int32,
    low: wp.vec3,
    high: wp.vec3,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    jitter: wp.array(dtype=wp.float32),
    binary: wp.array(dtype=wp.bool),
    write: wp.int32,
    first: wp.array(dtype=wp.int32),
    counts: wp.array(dtype=wp.int32),
    offsets: wp.array(dtype=wp.int32),
    ray_index: wp.array(dtype=wp.int32),
    t_start: wp.array(dtype=wp.float32),
    t_end: wp.array(dtype=wp.float32),
):
    i = start + wp.tid()
    if write == 1 and counts[i] == 0:
        return
    cube = wp.vec3(half, half, half)
    ray = make_ray(origins[i], directions[i], -cube, cube)
    box = make_ray(origins[i], directions[i], low, high)
    far = wp.min(ray.far, box.far)
    k = wp.max(stratum_after(ray, box.near, jitter[i], step), 0)
    if write == 1:
        k = first[i]
    count = wp.int32(0)
    t = ray.near + (wp.float32(k) + jitter[i]) * step
    while t < far:
        if is_occupied(ray.origin + t * ray.direction, half, resolution, binary):
            if write == 1:
                n = offsets[i] + count
                ray_index[n] = i
                t_start[n] = t - 0.5 * step
                t_end[n] = t + 0.5 * step
                if count + 1 == counts[i]:
                    return
            elif count == 0:
                first[i] = k
            count += 1
            k += 1
        else:
            leave = leave_cell(ray, t, half, resolution)
            k = wp.max(k + 1, stratum_after(ray, leave, jitter[i], step))
        t = ray.near + (wp.float32(k) + jitter[i]) * step
    if write == 0:
        counts[i] = count


def sample_rays(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    binary: Bool[Tensor, "resolution resolution resolution"],
    jitter: Float[Tensor, " rays"],
    half_extent: float,
    step_size: float,
    max_samples: int,
) -> Samples:
    """Sample rays; see `dreamlab.ops.volume.march.march`."""
    device, num_rays = origins.device, len(origins)
    first = torch.zeros(num_rays, dtype=torch.int32, device=device)
    counts = torch.zeros_like(first)
    box = occupied_box(binary, half_extent)
    if box is None:
        return Samples(first[:0], jitter[:0], jitter[:0], pack_offsets(counts, max_samples))
    grid = [half_extent, step_size, len(binary), *box]
    rays = [tensor.contiguous() for tensor in (origins, directions, jitter, binary)]
    nothing = [counts[:0], counts[:0], jitter[:0], jitter[:0]]
    inputs = [*grid, *rays, 0, first, counts, *nothing]
    launch_split(sample_kernel, num_rays, inputs, device)
    offsets = pack_offsets(counts, max_samples)
    ray_index = torch.zeros(int(offsets[-1]), dtype=torch.int32, device=device)
    t_start = torch.zeros(len(ray_index), device=device)
    t_end = torch.zeros_like(t_start)
    inputs = [*grid, *rays, 1, first, counts, offsets, ray_index, t_start, t_end]
    launch_split(sample_kernel, num_rays, inputs, device)
    return Samples(ray_index, t_start, t_end, offsets)


def occupied_box(
    binary: Bool[Tensor, "resolution resolution resolution"], half_extent: float
) -> tuple[wp.vec3, wp.vec3] | None:
    """Return the corners of the smallest box around all occupied cells, None if there are none."""
    low, high = [], []
    # The maximum of bytes takes a fifth of the time of torch's `any` over booleans.
    occupied = binary.view(torch.uint8)
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        used = occupied.amax(dim=others).nonzero()[:, 0]
        if not len(used):
            return None
        low.append(int(used[0]))
        high.append(int(used[-1]) + 1)
    size = 2 * half_extent / len(binary)
    margin = 1e-5 * half_extent
    corner = [[x * size - half_extent for x in edge] for edge in (low, high)]
    return wp.vec3(*(x - margin for x in corner[0])), wp.vec3(*(x + margin for x in corner[1]))
