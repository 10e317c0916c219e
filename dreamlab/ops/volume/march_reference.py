"""Plain-torch ray marching: the definition of what `march` returns.

Glossary and formulas are those of `dreamlab.ops.volume.march`. Every candidate of every ray is
looked up, so memory is rays times strata.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreamlab.ops.volume.march import Samples, pack_offsets


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
    near, far = cube_range(origins, directions, half_extent)
    num_strata = math.ceil(2 * math.sqrt(3) * half_extent / step_size) + 1
    strata = torch.arange(num_strata, dtype=origins.dtype, device=origins.device)
    t = near[:, None] + (strata + jitter[:, None]) * step_size
    points = origins[:, None] + t[..., None] * directions[:, None]
    resolution = len(binary)
    cells = (points + half_extent) * (resolution / (2 * half_extent))
    x, y, z = cells.nan_to_num(0).floor().long().clamp(0, resolution - 1).unbind(dim=-1)
    inside = (t < far[:, None]) & binary[x, y, z]
    offsets = pack_offsets(inside.sum(dim=1, dtype=torch.int32), max_samples)
    ray_index = inside.nonzero()[:, 0].int()
    t = t[inside]
    return Samples(ray_index, t - step_size / 2, t + step_size / 2, offsets)


def cube_range(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], half_extent: float
) -> tuple[Float[Tensor, " rays"], Float[Tensor, " rays"]]:
    """Return where rays enter (at 0 from inside) and leave the cube; far <= near is a miss."""
    first = (-half_extent - origins) / directions
    second = (half_extent - origins) / directions
    enter, leave = torch.minimum(first, second), torch.maximum(first, second)
    parallel, within = directions == 0, origins.abs() <= half_extent
    infinity = torch.full_like(enter, math.inf)
    enter = torch.where(parallel, torch.where(within, -infinity, infinity), enter)
    leave = torch.where(parallel, torch.where(within, infinity, -infinity), leave)
    return enter.amax(dim=-1).clamp(min=0), leave.amin(dim=-1)
