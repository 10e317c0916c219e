"""The density and colour that Gaussians make at any point: for surfaces and textures.

    density(x) = sum_i o_i exp(-(x - m_i)^T S_i^-1 (x - m_i) / 2),
    features(x) = sum_i density_i(x) f_i / density(x).

Generalised exponentials of shape beta have (..)^(beta / 2) in place of the square (..), as in
`splat`. A Gaussian counts within `REACH` standard deviations, others as far as they are as large.
The cube is cut into cells, each with a list of the Gaussians whose box reaches it, so a point looks
at its own cell's list alone. Where no list has anything, the features are those of the nearest
mean. Nothing here has a gradient.

Glossary: `o` opacity, `m` mean, `S` covariance; the density has no unit, 1 is about opaque.

Source: the local density query of DreamGaussian (Tang et al. 2024), section 3.2.
"""

from dataclasses import dataclass
from typing import no_type_check

import torch
import warp as wp
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.ops.splat.project import rotation_matrices
from dreamlab.ops.warp_setup import launch_split

wp.set_module_options({"enable_backward": False})

REACH = 3.5
"""Standard deviations; beyond, a Gaussian is below 0.0022 of its peak."""
CELLS = 32
"""Cells along an axis."""


@wp.kernel(enable_backward=False)
@no_type_check
def query_kernel(
    start: wp.int32,
    cells: wp.int32,
    channels: wp.int32,
    half_extent: wp.float32,
    is_shaped: wp.bool,
    points: wp.array(dtype=wp.vec3),
    means: wp.array(dtype=wp.vec3),
    inverse_roots: wp.array(dtype=wp.mat33),
    opacities: wp.array(dtype=wp.float32),
    shapes: wp.array(dtype=wp.float32),
    features: wp.array(dtype=wp.float32),
    starts: wp.array(dtype=wp.int32),
    members: wp.array(dtype=wp.int32),
    density: wp.array(dtype=wp.float32),
    sums: wp.array(dtype=wp.float32),
):
    point = start + wp.tid()
    x = points[point]
    cell = wp.int32(0)
    for axis in range(3):
        place = wp.int32((x[axis] / half_extent + 1.0) * 0.5 * wp.float32(cells))
        cell = cell * cells + wp.clamp(place, 0, cells - 1)
    total = wp.float32(0.0)
    for place in range(starts[cell], starts[cell + 1]):
        i = members[place]
        d = inverse_roots[i] * (x - means[i])
        power = wp.dot(d, d)
        if is_shaped:
            power = wp.pow(power, 0.5 * shapes[i])
        value = opacities[i] * wp.exp(-0.5 * power)
        total += value
        for k in range(channels):
            sums[point * channels + k] += value * features[i * channels + k]
    density[point] = total


@dataclass(frozen=True)
class GaussianIndex:
    """Gaussians with the lists of all cells; made by `build_index`."""

    half_extent: float
    means: Float[Tensor, "gaussians 3"]
    inverse_roots: Float[Tensor, "gaussians 3 3"]
    """diag(1 / s) R^T, whose square is the inverse covariance."""
    opacities: Float[Tensor, " gaussians"]
    shapes: Float[Tensor, " gaussians"] | None
    features: Float[Tensor, "gaussians channels"]
    starts: Int[Tensor, " cells_and_one"]
    members: Int[Tensor, " members"]

    def density(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Return the density, >= 0."""
        return self._sums(points)[0]

    def features_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points channels"]:
        """Return the features."""
        density, sums = self._sums(points)
        features = sums / density.clamp(min=1e-20)[:, None]
        lone = torch.nonzero(density <= 0)[:, 0]
        for chunk in lone.split(4096):
            nearest = torch.cdist(points[chunk].float(), self.means).argmin(dim=1)
            features[chunk] = self.features[nearest]
        return features

    def _sums(
        self, points: Float[Tensor, "points 3"]
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points channels"]]:
        """Return the two sums of the module docstring, that of the features not yet divided."""
        channels = self.features.shape[1]
        places = points.detach().float().contiguous()
        density = places.new_zeros(len(places))
        sums = places.new_zeros(len(places), channels)
        is_shaped = self.shapes is not None
        shapes = self.opacities if self.shapes is None else self.shapes
        inputs = [CELLS, channels, self.half_extent, is_shaped, places]
        inputs += [self.means, self.inverse_roots, self.opacities, shapes, self.features.view(-1)]
        inputs += [self.starts, self.members]
        launch_split(query_kernel, len(places), [*inputs, density, sums.view(-1)], places.device)
        return density, sums


@torch.no_grad()
def build_index(
    means: Float[Tensor, "gaussians 3"],
    quaternions: Float[Tensor, "gaussians 4"],
    scales: Float[Tensor, "gaussians 3"],
    opacities: Float[Tensor, " gaussians"],
    features: Float[Tensor, "gaussians channels"],
    half_extent: float,
    shapes: Float[Tensor, " gaussians"] | None = None,
) -> GaussianIndex:
    """List the Gaussians of every cell of the cube [-half_extent, half_extent]^3."""
    rotations = rotation_matrices(quaternions)
    root = rotations * scales[:, None]
    deviations = REACH if shapes is None else (REACH ** (2 / shapes))[:, None]
    reach = deviations * root.square().sum(dim=-1).sqrt()
    low, high = (((means + sign * reach) / half_extent + 1) * (CELLS / 2) for sign in (-1, 1))
    low = low.floor().clamp(0, CELLS - 1).long()
    spans = high.floor().clamp(0, CELLS - 1).long() - low + 1
    count = spans.prod(dim=1)
    owner = torch.arange(len(means), device=means.device).repeat_interleave(count)
    place = torch.arange(len(owner), device=means.device)
    place = place - (count.cumsum(0) - count)[owner]
    span = spans[owner]
    i = place // (span[:, 1] * span[:, 2])
    j = place // span[:, 2] % span[:, 1]
    steps = torch.stack([i, j, place % span[:, 2]], dim=1) + low[owner]
    cell = (steps[:, 0] * CELLS + steps[:, 1]) * CELLS + steps[:, 2]
    order = cell.argsort(stable=True)
    sizes = torch.bincount(cell, minlength=CELLS**3)
    starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    inverse = rotations.transpose(1, 2) / scales[:, :, None]
    return GaussianIndex(
        half_extent,
        means.float().contiguous(),
        inverse.float().contiguous(),
        opacities.float().contiguous(),
        None if shapes is None else shapes.float().contiguous(),
        features.float().contiguous(),
        starts.int(),
        owner[order].int(),
    )
