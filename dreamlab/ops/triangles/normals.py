"""Normals of triangles and of their vertices.

    N_f = (b - a) x (c - a),   n_v = sum of N_f over the triangles at v, normalised

so a triangle counts by its area. Source: Gouraud 1971; area weights are common practice since.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize


def face_normals(
    vertices: Float[Tensor, "vertices 3"], tri: Int[Tensor, "triangles 3"]
) -> Float[Tensor, "triangles 3"]:
    """Return N_f, twice as long as the triangle's area; differentiable."""
    a, b, c = vertices.index_select(0, tri.flatten()).view(-1, 3, 3).unbind(dim=1)
    return torch.linalg.cross(b - a, c - a)


def vertex_normals(
    vertices: Float[Tensor, "vertices 3"], tri: Int[Tensor, "triangles 3"]
) -> Float[Tensor, "vertices 3"]:
    """Return unit normals, zero at a vertex without triangles; differentiable."""
    normals = face_normals(vertices, tri)
    share = normals[:, None].expand(-1, 3, -1).reshape(-1, 3)
    total = torch.zeros_like(vertices).index_add(0, tri.flatten(), share)
    return normalize(total, dim=-1)
