"""Normals in plain torch.

Formulas and names are those of `dreamlab.ops.triangles.normals`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.ops.triangles.normals import NO_AREA


def face_normals(
    vertices: Float[Tensor, "vertices 3"], tri: Int[Tensor, "triangles 3"]
) -> Float[Tensor, "triangles 3"]:
    """Return n_f; see `dreamlab.ops.triangles.normals.face_normals`."""
    return _unit(_by_area(vertices, tri))


def vertex_normals(
    vertices: Float[Tensor, "vertices 3"], tri: Int[Tensor, "triangles 3"]
) -> Float[Tensor, "vertices 3"]:
    """Return n_v; see `dreamlab.ops.triangles.normals.vertex_normals`."""
    share = _by_area(vertices, tri)[:, None].expand(-1, 3, -1).reshape(-1, 3)
    return _unit(torch.zeros_like(vertices).index_add(0, tri.flatten(), share))


def _by_area(vertices: Tensor, tri: Tensor) -> Tensor:
    """Return N_f."""
    a, b, c = vertices[tri].unbind(dim=1)
    return torch.linalg.cross(b - a, c - a)


def _unit(vectors: Tensor) -> Tensor:
    length = vectors.norm(dim=-1, keepdim=True)
    has_area = length > NO_AREA
    return (vectors / length.where(has_area, 1.0)).where(has_area, 0.0)
