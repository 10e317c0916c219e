"""Isosurface of a sampled field by marching cubes.

Glossary: `values` at R^3 nodes that span the cube [-h, h]^3, axes in order x, y, z, first and last
node on its faces; inside is where the value exceeds the threshold, as for a density.

Source: Lorensen and Cline 1987; Lewiner et al. 2003, as implemented in scikit-image.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh


def extract(
    values: Float[Tensor, "resolution resolution resolution"],
    threshold: float,
    half_extent: float = 1.0,
) -> Mesh:
    """Extract the closed surface around all nodes whose value exceeds `threshold`.

    An object that reaches the border of the cube is capped there. A node exactly at the threshold
    counts as outside. Not differentiable.

    Args:
        values: at the nodes of the cube, any device.
        threshold: in the units of `values`.
        half_extent: h, world units.

    Returns:
        Mesh in world coordinates, triangles counter-clockwise seen from outside.

    Raises:
        InputError: the grid is smaller than 2^3, a value is not finite, or nothing exceeds the
            threshold.
    """
    from skimage.measure import marching_cubes

    resolution = values.shape[0]
    if resolution < 2:
        raise InputError(
            f"an isosurface needs at least 2 nodes an axis, got {resolution}.",
            "raise the resolution.",
        )
    low, high = (float(bound) for bound in torch.aminmax(values))
    if not np.isfinite(high - low):
        raise InputError(
            "the field has values that are not finite.", "use an earlier state of the run."
        )
    if high <= threshold:
        raise InputError(
            f"no value exceeds the threshold {threshold:g}; the largest is {high:g}.",
            f"use a threshold below {high:g}, or optimise longer until the object is denser.",
        )
    inside = values.detach().to("cpu", torch.float32) - threshold
    padded = torch.nn.functional.pad(inside, (1,) * 6, value=-(high - threshold)).numpy()
    # Vertices that would meet at a node make triangles without area: move such nodes outside.
    padded[padded == 0] = -np.finfo(np.float32).eps * (high - threshold)
    vertices, faces, _, _ = marching_cubes(padded, level=0.0)
    spacing = 2 * half_extent / (resolution - 1)
    vertices = np.clip((vertices - 1) * spacing - half_extent, -half_extent, half_extent)
    # scikit-image winds triangles for axes in order z, y, x.
    return Mesh(vertices.astype(np.float32), faces[:, ::-1].astype(np.int64, order="C"))
