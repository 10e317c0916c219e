# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Normals on Warp kernels, with the backward pass by hand.

Formulas and names are those of `dreamlab.ops.triangles.normals`. With g = dL/dn, n = N / |N|, and
u = b - a, v = c - a the sides of a triangle, N = u x v,

    G = dL/dN = (g - n (n . g)) / |N|,
    dL/db = v x G,   dL/dc = G x u,   dL/da = -dL/db - dL/dc,

where G of a triangle is the sum of those of its corners if n is the vertices'.
"""

from typing import Any, no_type_check

import torch
import warp as wp
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dreamlab.ops.triangles.normals import NO_AREA
from dreamlab.ops.warp_setup import LIGHT_GRAIN, launch_scatter, launch_split

wp.set_module_options({"enable_backward": False})

LEAST = wp.constant(NO_AREA)


def face_normals(
    vertices: Float[Tensor, "vertices 3"], tri: Int[Tensor, "triangles 3"]
) -> Float[Tensor, "triangles 3"]:
    """Return n_f; see `dreamlab.ops.triangles.normals.face_normals`."""
    return _FaceNormals.apply(vertices.contiguous(), tri)


def vertex_normals(
    vertices: Float[Tensor, "vertices 3"], tri: Int[Tensor, "triangles 3"]
) -> Float[Tensor, "vertices 3"]:
    """Return n_v; see `dreamlab.ops.triangles.normals.vertex_normals`."""
    return _VertexNormals.apply(vertices.contiguous(), tri)


@wp.func
@no_type_check
def by_area(vertices: wp.array(dtype=wp.vec3), t: wp.vec3i):
    """Return N."""
    a = vertices[t[0]]
    return wp.cross(vertices[t[1]] - a, vertices[t[2]] - a)


@wp.func
@no_type_check
def add(total: wp.array(dtype=wp.float32), row: wp.int32, value: wp.vec3):
    wp.atomic_add(total, 3 * row, value[0])
    wp.atomic_add(total, 3 * row + 1, value[1])
    wp.atomic_add(total, 3 * row + 2, value[2])


@wp.kernel(enable_backward=False)
@no_type_check
def face_kernel(
    start: wp.int32,
    tri: wp.array(dtype=wp.vec3i),
    vertices: wp.array(dtype=wp.vec3),
    vectors: wp.array(dtype=wp.vec3),
):
    triangle = start + wp.tid()
    vectors[triangle] = by_area(vertices, tri[triangle])


@wp.kernel(enable_backward=False)
@no_type_check
def corner_kernel(
    start: wp.int32,
    tri: wp.array(dtype=wp.vec3i),
    vertices: wp.array(dtype=wp.vec3),
    total: wp.array(dtype=wp.float32),
):
    """Add N of a triangle to its corners."""
    t = tri[start + wp.tid()]
    normal = by_area(vertices, t)
    add(total, t[0], normal)
    add(total, t[1], normal)
    add(total, t[2], normal)


@wp.kernel(enable_backward=False)
@no_type_check
def unit_kernel(
    start: wp.int32,
    vectors: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    lengths: wp.array(dtype=wp.float32),
):
    """Store n = N / |N|, and |N|; both zero where there is no area."""
    row = start + wp.tid()
    vector = vectors[row]
    length = wp.length(vector)
    normal = wp.vec3(0.0, 0.0, 0.0)
    if length > LEAST:
        normal = vector / length
    else:
        length = 0.0
    normals[row] = normal
    lengths[row] = length


@wp.func
@no_type_check
def through_unit(g: wp.vec3, normal: wp.vec3, length: wp.float32):
    """Return G."""
    if length == 0.0:
        return wp.vec3(0.0, 0.0, 0.0)
    return (g - normal * wp.dot(normal, g)) / length


@wp.func
@no_type_check
def pull(
    t: wp.vec3i,
    vertices: wp.array(dtype=wp.vec3),
    to_vector: wp.vec3,
    to_vertices: wp.array(dtype=wp.float32),
):
    """Add dL/da, dL/db, dL/dc of a triangle, given its G."""
    a = vertices[t[0]]
    to_b = wp.cross(vertices[t[2]] - a, to_vector)
    to_c = wp.cross(to_vector, vertices[t[1]] - a)
    add(to_vertices, t[0], -to_b - to_c)
    add(to_vertices, t[1], to_b)
    add(to_vertices, t[2], to_c)


@wp.kernel(enable_backward=False)
@no_type_check
def gradient_kernel(
    start: wp.int32,
    tri: wp.array(dtype=wp.vec3i),
    vertices: wp.array(dtype=wp.vec3),
    of_triangles: wp.bool,
    normals: wp.array(dtype=wp.vec3),
    lengths: wp.array(dtype=wp.float32),
    to_normals: wp.array(dtype=wp.vec3),
    to_vertices: wp.array(dtype=wp.float32),
):
    """Add what the normal of a triangle, or those of its corners, say of the corners."""
    triangle = start + wp.tid()
    t = tri[triangle]
    if of_triangles:
        to_vector = through_unit(to_normals[triangle], normals[triangle], lengths[triangle])
        pull(t, vertices, to_vector, to_vertices)
    else:
        to_vector = wp.vec3(0.0, 0.0, 0.0)
        for k in range(3):
            to_vector += through_unit(to_normals[t[k]], normals[t[k]], lengths[t[k]])
        pull(t, vertices, to_vector, to_vertices)


def _units(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return n and |N|."""
    normals, lengths = torch.empty_like(vectors), torch.empty_like(vectors[:, 0])
    inputs = [vectors, normals, lengths]
    launch_split(unit_kernel, len(vectors), inputs, vectors.device, grain=LIGHT_GRAIN)
    return normals, lengths


class _FaceNormals(Function):
    """n_f, with gradients to the vertices."""

    @staticmethod
    def forward(ctx: Any, vertices: Tensor, tri: Tensor) -> Tensor:
        vectors = torch.empty(len(tri), 3, dtype=vertices.dtype, device=vertices.device)
        inputs = [tri, vertices, vectors]
        launch_split(face_kernel, len(tri), inputs, vertices.device, grain=LIGHT_GRAIN)
        normals, lengths = _units(vectors)
        ctx.save_for_backward(vertices, tri, normals, lengths)
        return normals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        return _to_vertices(ctx.saved_tensors, cotangents[0], of_triangles=True), None


class _VertexNormals(Function):
    """n_v, with gradients to the vertices."""

    @staticmethod
    def forward(ctx: Any, vertices: Tensor, tri: Tensor) -> Tensor:
        total = _scatter(corner_kernel, [tri, vertices])
        normals, lengths = _units(total)
        ctx.save_for_backward(vertices, tri, normals, lengths)
        return normals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        return _to_vertices(ctx.saved_tensors, cotangents[0], of_triangles=False), None


def _to_vertices(saved: tuple[Tensor, ...], to_normals: Tensor, *, of_triangles: bool) -> Tensor:
    """Return the gradient to the vertices; `saved` are vertices, triangles, n and |N|."""
    vertices, tri, normals, lengths = saved
    inputs = [tri, vertices, of_triangles, normals, lengths, to_normals.contiguous()]
    return _scatter(gradient_kernel, inputs)


def _scatter(kernel: Any, inputs: list[Any]) -> Tensor:
    """Return what the kernel adds up at vertices; inputs begin with triangles and vertices."""
    tri, vertices = inputs[:2]
    shape = tuple(vertices.shape)
    return launch_scatter(kernel, len(tri), inputs, shape, vertices.device, grain=LIGHT_GRAIN)
