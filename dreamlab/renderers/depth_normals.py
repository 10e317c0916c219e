"""Normals of what a camera sees, from the depth of neighbouring pixels.

    P = o + d depth / alpha                       the point that a pixel sees
    a, b = dP/dx, dP/dy                           weighted means of one-sided differences
    n = (b x a) / |b x a|                         towards the camera

Glossary: `o`, `d` origin and unit direction of a pixel's ray; x runs right and y down the image, as
its columns and rows do; world units.

The gradient of a density says where fog gets denser, which is no surface as long as the object is
fog; the mean depth is smooth all the same, and costs nothing. A difference that crosses a jump in
depth or reaches into the background must not count, so each of the two one-sided differences at a
pixel is weighted by (alpha of the neighbour)^2 / |difference|^2, without gradient.
"""

import torch
from jaxtyping import Float
from torch import Tensor

MIN_ALPHA = 1e-2
"""Opacity below which a pixel's depth is replaced by that of the point nearest to the origin."""
TINY = 1e-12


def depth_normals(
    origins: Float[Tensor, "batch height width 3"],
    directions: Float[Tensor, "batch height width 3"],
    alpha: Float[Tensor, "batch height width 1"],
    depth: Float[Tensor, "batch height width 1"],
) -> Float[Tensor, "batch height width 3"]:
    """Return unit normals in world space, facing the camera; at least 2x2 pixels are needed.

    Args:
        origins: of the rays, world space.
        directions: unit vectors.
        alpha: opacity.
        depth: opacity-weighted distance along the ray, not normalised.

    Gradients: to depth and alpha; not through the weights of the differences.
    """
    nearest = -(origins * directions).sum(-1, keepdim=True)
    is_seen = alpha > MIN_ALPHA
    distance = torch.where(is_seen, depth / alpha.clamp(min=MIN_ALPHA), nearest)
    points = origins + directions * distance
    seen = (alpha * is_seen).detach()
    right, down = _slope(points, seen, axis=2), _slope(points, seen, axis=1)
    normal = torch.linalg.cross(down, right)
    return normal * torch.rsqrt(normal.square().sum(-1, keepdim=True) + TINY**2)


def _slope(points: Tensor, seen: Tensor, axis: int) -> Tensor:
    """Return the weighted mean of the differences to the next and to the previous pixel."""
    count = points.shape[axis]
    step = points.narrow(axis, 1, count - 1) - points.narrow(axis, 0, count - 1)
    closeness = 1 / (step.detach().square().sum(-1, keepdim=True) + TINY)
    to_next = closeness * seen.narrow(axis, 1, count - 1).square() + TINY
    to_previous = closeness * seen.narrow(axis, 0, count - 1).square() + TINY
    first, last = _padding(points.ndim, axis)
    weight_next, weight_previous = _pad(to_next, last), _pad(to_previous, first)
    total = _pad(step, last) * weight_next + _pad(step, first) * weight_previous
    return total / (weight_next + weight_previous)


def _padding(ndim: int, axis: int) -> tuple[list[int], list[int]]:
    """Return `pad` arguments that add one entry before, and one after, along `axis`."""
    before, after = [0] * (2 * ndim), [0] * (2 * ndim)
    position = 2 * (ndim - 1 - axis)
    before[position], after[position + 1] = 1, 1
    return before, after


def _pad(tensor: Tensor, amount: list[int]) -> Tensor:
    return torch.nn.functional.pad(tensor, amount)
