"""Plain-torch hash encoding: the definition of what `hash_encode` computes.

Glossary and formulas are those of `dreamlab.ops.hashgrid.encode`. Any float type; derivatives of
any order by autograd. Slow: all eight corners of every level are materialised.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.ops.hashgrid.encode import PRIMES, HashGridLayout

WORD = 0xFFFFFFFF
"""Coordinates and hashes are unsigned 32-bit numbers."""


def encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    layout: HashGridLayout,
) -> Float[Tensor, "points outputs"]:
    """Encode points; see `dreamlab.ops.hashgrid.encode.hash_encode`."""
    levels = [_encode_level(points, table, layout, level) for level in range(len(layout.scales))]
    return torch.cat(levels, dim=-1)


def point_gradient(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    cotangent: Float[Tensor, "points outputs"],
    layout: HashGridLayout,
) -> Float[Tensor, "points 3"]:
    """Differentiate the encoding; see `dreamlab.ops.hashgrid.hash_point_gradient`."""
    with torch.enable_grad():
        at = points if points.requires_grad else points.detach().requires_grad_()
        weighted = (encode(at, table, layout) * cotangent).sum()
        (gradient,) = torch.autograd.grad(weighted, at, create_graph=True)
    return gradient


def _encode_level(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    layout: HashGridLayout,
    level: int,
) -> Float[Tensor, "points features"]:
    bits = torch.tensor([[(c >> axis) & 1 for axis in range(3)] for c in range(8)])
    bits = bits.to(points.device)
    position = points * layout.scales[level] + 0.5
    cell = position.detach().floor()
    fraction = position - cell
    if layout.config.interpolation == "smoothstep":
        fraction = fraction * fraction * (3 - 2 * fraction)
    fraction = fraction[:, None]
    x, y, z = torch.where(bits == 1, fraction, 1 - fraction).unbind(dim=-1)
    entry = _entry(cell.long()[:, None] + bits, layout, level)
    return ((x * y * z)[..., None] * table[entry]).sum(dim=1)


def _entry(
    corner: Int[Tensor, "points corners 3"], layout: HashGridLayout, level: int
) -> Int[Tensor, "points corners"]:
    """Return the table row of grid corners."""
    x, y, z = corner.unbind(dim=-1)
    resolution, size = layout.resolutions[level], layout.sizes[level]
    if resolution:
        index = (x + y * resolution + z * resolution**2) & WORD
    else:
        x, y, z = ((axis * prime) & WORD for axis, prime in zip((x, y, z), PRIMES, strict=True))
        index = x ^ y ^ z
    return layout.offsets[level] + index % size
