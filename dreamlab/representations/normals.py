"""Gradients of a scalar field by differences, and normals.

Glossary: `f` a scalar field of world points, `h` distance of the differences in world units,
`gradient` of f, 1 / world unit; `normal` points to where f falls, out of a dense object.

Evaluations of f per point: tetrahedral 4, central 6.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

NormalMethod = Literal["tetrahedral", "central", "analytic"]
ScalarField = Callable[[Tensor], Tensor]
"""Maps points [n 3] to values [n]."""

SOFTENING = 1e-6
"""Squared gradient at which a normal has shrunk to 1/sqrt(2): keeps its derivative bounded."""


def downhill(gradient: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
    """Return -g / sqrt(|g|^2 + 1e-6): unit normals wherever the field changes at all."""
    return -gradient * torch.rsqrt(gradient.square().sum(-1, keepdim=True) + SOFTENING)


def tetrahedral_gradient(
    f: ScalarField, points: Float[Tensor, "points 3"], h: float
) -> Float[Tensor, "points 3"]:
    """Estimate the gradient from the corners of a tetrahedron around each point.

    With the corners v_i = (1,-1,-1), (-1,-1,1), (-1,1,-1), (1,1,1), for which sum v_i v_i^T = 4 I:

        gradient = sum_i v_i f(x + h v_i / sqrt(3)) sqrt(3) / (4 h)

    Exact for linear f; mixed second derivatives enter at order h, unmixed ones cancel.
    Source: Quilez, "Normals for an SDF", tetrahedron technique.
    """
    corners = points.new_tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
    values = _at_offsets(f, points, corners * (h / 3**0.5))
    return values @ corners * (3**0.5 / (4 * h))


def central_gradient(
    f: ScalarField, points: Float[Tensor, "points 3"], h: float
) -> Float[Tensor, "points 3"]:
    """Estimate the gradient as (f(x + h e_i) - f(x - h e_i)) / (2 h); the error is of order h^2."""
    axes = torch.eye(3, dtype=points.dtype, device=points.device)
    values = _at_offsets(f, points, torch.cat([axes, -axes]) * h)
    return (values[:, :3] - values[:, 3:]) / (2 * h)


def _at_offsets(f: ScalarField, points: Tensor, offsets: Tensor) -> Tensor:
    shifted = points[:, None] + offsets
    return f(shifted.reshape(-1, 3)).reshape(len(points), len(offsets))
