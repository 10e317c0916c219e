"""March rays through a cube, keeping only samples in occupied cells.

The cube is [-h, h]^3, cut into R^3 cells. A ray o + t d meets it for t in [near, far), near >= 0.
Its candidates are equal strata of length step_size with midpoints

    t_k = near + (k + u) step_size,   k = 0, 1, ...,   t_k < far

where u in [0, 1) is the ray's jitter; a candidate is a sample if the cell of its midpoint is
occupied. So midpoints never leave the cube or lie behind the origin, and with uniform u the sum
of f(t_k) step_size is an unbiased estimate of the integral of f.

Glossary: `rays` R, `samples` N over all rays together, `packed`: the samples of ray 0, then those
of ray 1, and so on, each front to back; ray r owns [offsets[r], offsets[r + 1]).

Source: occupancy-grid marching of Müller et al. 2022 (Instant NGP), section 5.4 and appendix E.1;
packed samples as in Li et al. 2023, "NerfAcc".
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from dreamlab.core.errors import InputError, MemoryExhaustedError
from dreamlab.ops.backends import Backend, resolve

MAX_SAMPLES = 1 << 24
"""Default bound on the samples of one call; a field needs about 1 kB for each of them."""


@dataclass(frozen=True)
class Samples:
    """Samples along rays, packed; distances in world units if directions are unit vectors."""

    ray_index: Int32[Tensor, " samples"]
    """Ray of each sample, non-decreasing."""
    t_start: Float[Tensor, " samples"]
    """Where the stratum of the sample begins."""
    t_end: Float[Tensor, " samples"]
    """Where it ends."""
    offsets: Int32[Tensor, " rays_plus_one"]
    """First sample of each ray, and the number of samples."""

    def __len__(self) -> int:
        return len(self.ray_index)

    @property
    def num_rays(self) -> int:
        """Number of rays, those without samples included."""
        return len(self.offsets) - 1

    @property
    def t_mid(self) -> Float[Tensor, " samples"]:
        """Return the distance of each sample's midpoint."""
        return 0.5 * (self.t_start + self.t_end)

    def points(
        self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]
    ) -> Float[Tensor, "samples 3"]:
        """Return the midpoints of the samples in world space."""
        ray = self.ray_index
        return origins.index_select(0, ray) + self.t_mid[:, None] * directions.index_select(0, ray)

    def keep(self, mask: Bool[Tensor, " samples"]) -> "Samples":
        """Return the samples where `mask` is true, over the same rays."""
        kept = torch.zeros(len(self) + 1, dtype=torch.int32, device=mask.device)
        torch.cumsum(mask, 0, dtype=torch.int32, out=kept[1:])
        offsets = kept[self.offsets.long()]
        return Samples(self.ray_index[mask], self.t_start[mask], self.t_end[mask], offsets)


def march(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    binary: Bool[Tensor, "resolution resolution resolution"],
    *,
    half_extent: float,
    step_size: float,
    jitter: Float[Tensor, " rays"] | None = None,
    max_samples: int = MAX_SAMPLES,
    backend: Backend = "auto",
) -> Samples:
    """Place samples along rays in the occupied cells of a cube.

    Args:
        origins: world space, inside or outside the cube.
        directions: world space, unit length, in any direction (components may be 0).
        binary: True where a cell is occupied, indexed [x, y, z].
        half_extent: h, world units.
        step_size: world units.
        jitter: u in [0, 1) for each ray; None means 1/2.
        max_samples: bound on the samples of all rays together.
        backend: `warp` (float32) or `reference`.

    Returns:
        Packed samples; there may be none.

    Raises:
        InputError: a size is not positive, or a type or shape does not fit.
        MemoryExhaustedError: there would be more than `max_samples` samples.

    Gradients:
        None: where samples lie is not differentiable.
    """
    name = resolve("march", backend, origins.device)
    _check(origins, binary, half_extent, step_size, name)
    if jitter is None:
        jitter = torch.full_like(origins[:, 0], 0.5)
    if name == "reference":
        from dreamlab.ops.volume.march_reference import sample_rays
    else:
        from dreamlab.ops.volume.march_warp import sample_rays
    with torch.no_grad():
        return sample_rays(origins, directions, binary, jitter, half_extent, step_size, max_samples)


def pack_offsets(counts: Int32[Tensor, " rays"], max_samples: int) -> Int32[Tensor, " edges"]:
    """Turn samples per ray into offsets; raises `MemoryExhaustedError` above `max_samples`."""
    total = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=total[1:])
    num_samples = int(total[-1])
    if num_samples > max_samples:
        raise MemoryExhaustedError(
            f"Rendering {len(counts)} rays needs {num_samples} samples, more than the "
            f"{max_samples} that are allowed at once.",
            "Render fewer or smaller views at a time, or use a larger step_size.",
        )
    return total.to(torch.int32)


def _check(
    origins: Tensor, binary: Tensor, half_extent: float, step_size: float, name: str
) -> None:
    if not (step_size > 0 and half_extent > 0 and math.isfinite(half_extent / step_size)):
        raise InputError(
            f"half_extent and step_size must be positive, got {half_extent} and {step_size}.",
            "Give both in world units, e.g. half_extent 1.0 and step_size 0.007.",
        )
    if not binary.shape[0] == binary.shape[1] == binary.shape[2]:
        raise InputError(
            f"The occupancy grid must be a cube, got {tuple(binary.shape)}.",
            "Use a grid of shape [resolution, resolution, resolution].",
        )
    if name == "warp" and origins.dtype != torch.float32:
        raise InputError(
            f"march on backend 'warp' needs float32 rays, got {origins.dtype}.",
            "Convert them with .float(), or use backend 'reference'.",
        )
