"""Normals of triangles and of their vertices.

    N_f = (b - a) x (c - a),   n_f = N_f / |N_f|
    N_v = sum of N_f over the triangles at v,   n_v = N_v / |N_v|

so a triangle counts by its area at its vertices. What has no area has no direction: its normal is
zero, and no gradient comes from it. Source: Gouraud 1971; area weights are common practice since.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.ops.backends import Backend, resolve
from dreamlab.ops.triangles.corners import corner_numbers

NO_AREA = 1e-12
"""Where |N| is at most this, there is no normal."""


def face_normals(
    vertices: Float[Tensor, "vertices 3"],
    tri: Int[Tensor, "triangles 3"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "triangles 3"]:
    """Return n_f of every triangle; differentiable.

    Raises:
        InputError: the backend needs float32, and the vertices are not, or a corner number is out
            of range.
    """
    if _resolve(vertices, backend) == "reference":
        from dreamlab.ops.triangles.normals_reference import face_normals as implementation
    else:
        from dreamlab.ops.triangles.normals_warp import face_normals as implementation
    return implementation(vertices, corner_numbers(tri, len(vertices)))


def vertex_normals(
    vertices: Float[Tensor, "vertices 3"],
    tri: Int[Tensor, "triangles 3"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "vertices 3"]:
    """Return n_v of every vertex, zero without triangles; differentiable.

    Raises:
        InputError: the backend needs float32, and the vertices are not, or a corner number is out
            of range.
    """
    if _resolve(vertices, backend) == "reference":
        from dreamlab.ops.triangles.normals_reference import vertex_normals as implementation
    else:
        from dreamlab.ops.triangles.normals_warp import vertex_normals as implementation
    return implementation(vertices, corner_numbers(tri, len(vertices)))


def _resolve(vertices: Tensor, backend: Backend) -> str:
    name = resolve("normals", backend, vertices.device)
    if name == "warp" and vertices.dtype != torch.float32:
        raise InputError(
            f"normals on backend 'warp' need float32, got {vertices.dtype}.",
            "Convert the vertices with .float(), or use backend 'reference'.",
        )
    return name
