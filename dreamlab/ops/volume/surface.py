"""The surface of a density: where its logarithm crosses that of the threshold.

Glossary: `tau` threshold, 1 / world unit; `L` = log(density / floor), 0 below the floor.

Outside an object a density falls by a constant factor a cell rather than by a constant amount, so
between the nodes of a grid its logarithm, not itself, is nearly linear: a surface of L lies up to
several times closer to the true one. The search for the threshold interpolates the same L, so what
it predicts is what is extracted.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv3d, max_pool3d, pad

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.ops.triangles.isosurface import extract

LOWEST = 1e-5
"""Lowest density that counts, as a fraction of the largest, or of a threshold below that."""


def extract_surface(
    density: Float[Tensor, "resolution resolution resolution"],
    threshold: float,
    half_extent: float,
) -> Mesh:
    """Extract the closed surface around all nodes whose density exceeds the threshold.

    Args:
        density: at the nodes of the cube [-half_extent, half_extent]^3; 1 / world unit.
        threshold: tau.
        half_extent: of the cube, world units.

    Returns:
        Mesh in world coordinates, triangles counter-clockwise seen from outside.

    Raises:
        InputError: a density is not finite, or none exceeds the threshold.
    """
    logarithm, floor = log_density(density, threshold)
    return extract(logarithm, math.log(threshold / floor), half_extent)


def smoothed(
    density: Float[Tensor, "resolution resolution resolution"], deviation: float
) -> Float[Tensor, "resolution resolution resolution"]:
    """Blur a density with a Gaussian: gaps between the parts that it is made of are closed.

    Args:
        density: at nodes; zero is assumed outside.
        deviation: standard deviation, > 0, in distances between nodes.
    """
    reach = math.ceil(3 * deviation)
    offset = torch.arange(-reach, reach + 1, device=density.device, dtype=density.dtype)
    kernel = torch.exp(-0.5 * (offset / deviation).square())
    kernel = kernel / kernel.sum()
    blurred = density[None, None]
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = len(kernel), reach
        blurred = conv3d(blurred, kernel.reshape(shape), padding=padding)
    return blurred[0, 0]


def closed(
    density: Float[Tensor, "resolution resolution resolution"], reach: int
) -> Float[Tensor, "resolution resolution resolution"]:
    """Close holes and gaps narrower than 2 `reach` + 1 nodes; what is convex stays as it is.

    The grey-scale closing of mathematical morphology with a cube: the largest value within `reach`
    nodes along every axis, and of those the smallest. Never below `density`; zero outside.
    """
    side = 2 * reach + 1
    widened = pad(density[None, None], [2 * reach] * 6)
    largest = max_pool3d(widened, side, stride=1)
    return -max_pool3d(-largest, side, stride=1)[0, 0]


def log_density(
    density: Float[Tensor, "resolution resolution resolution"], threshold: float | None = None
) -> tuple[Float[Tensor, "resolution resolution resolution"], float]:
    """Return L = log(density / floor), 0 below the floor, and the floor.

    Args:
        density: 1 / world unit.
        threshold: one so low that it would not count otherwise lowers the floor.

    Raises:
        InputError: a density is not finite, none is positive, or none exceeds the threshold.
    """
    high = float(density.max())
    if not math.isfinite(high) or not bool(torch.isfinite(density).all()):
        raise InputError(
            "the field has densities that are not finite.", "use an earlier state of the run."
        )
    if high <= 0:
        raise InputError(
            "there is nothing to export: the density is zero everywhere.",
            "optimise for more steps, or start again with another seed.",
        )
    if threshold is not None and threshold >= high:
        raise InputError(
            f"no density exceeds the threshold {threshold:g}; the largest is {high:g}.",
            f"use a threshold below {high:g}, or leave it unset to have one found.",
        )
    floor = LOWEST * high
    if threshold is not None and threshold <= floor:
        floor = LOWEST * threshold
    return (density.detach() / floor).clamp(min=1).log(), floor
