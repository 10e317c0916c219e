# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false
"""Rasterization on Warp kernels, with the backward pass by hand.

Formulas and names are those of `dreamlab.ops.triangles.rasterize`. Three passes: the boxes around
triangles; triangles into a z-buffer, whose 64-bit keys hold z / w above the triangle number, so
that the least key is the nearest triangle; pixels to weights. On a CPU the z-buffer is cut into
strips of rows, each of which visits all triangles: no two threads share a pixel.

With g_k = dL/db_k (g_2 = 0), S = e_0 + e_1 + e_2 and q_k = (g_k - sum_i g_i b_i) / S = dL/de_k,

    dL/dp_0 = q_2 J p_1 - q_1 J p_2  and so on in turn,  J (a, b) = (b, -a),
    dL/dx_k = dL/dp_k.x,  dL/dy_k = dL/dp_k.y,  dL/dw_k = -(X dL/dp_k.x + Y dL/dp_k.y).
"""

from typing import Any, no_type_check

import torch
import warp as wp
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dreamlab.core.errors import InputError
from dreamlab.ops.warp_setup import launch_scatter, launch_split

wp.set_module_options({"enable_backward": False})


def rasterize(
    pos: Float[Tensor, "batch vertices 4"],
    tri: Int[Tensor, "triangles 3"],
    resolution: tuple[int, int],
) -> Float[Tensor, "batch height width 4"]:
    """Rasterize; see `dreamlab.ops.triangles.rasterize.rasterize`.

    Raises:
        InputError: `pos` is not float32.
    """
    if pos.dtype != torch.float32:
        raise InputError(
            f"rasterize on backend 'warp' needs float32, got {pos.dtype}.",
            "Convert it with .float(), or use backend 'reference'.",
        )
    return _Rasterize.apply(pos.contiguous(), tri, resolution)


@wp.func
@no_type_check
def cross(a: wp.vec2, b: wp.vec2):
    return a[0] * b[1] - a[1] * b[0]


@wp.func
@no_type_check
def edge(a: wp.vec2, b: wp.vec2, i: wp.int32, j: wp.int32):
    """Return a x b, evaluated from the corner of lower number."""
    if i < j:
        return cross(a, b)
    return -cross(b, a)


@wp.func
@no_type_check
def moved(v: wp.vec4, x: wp.float32, y: wp.float32):
    """Return p: a corner as the pixel at (x, y) sees it."""
    return wp.vec2(v[0] - x * v[3], v[1] - y * v[3])


@wp.func
@no_type_check
def edges(a: wp.vec4, b: wp.vec4, c: wp.vec4, t: wp.vec3i, x: wp.float32, y: wp.float32):
    """Return (e_0, e_1, e_2)."""
    p = moved(a, x, y)
    q = moved(b, x, y)
    r = moved(c, x, y)
    return wp.vec3(edge(q, r, t[1], t[2]), edge(r, p, t[2], t[0]), edge(p, q, t[0], t[1]))


@wp.func
@no_type_check
def center(i: wp.int32, count: wp.int32):
    """Return the coordinate in [-1, 1] of a pixel's centre."""
    return wp.float32(2 * i + 1) / wp.float32(count) - 1.0


@wp.func
@no_type_check
def ordered(value: wp.float32):
    """Return a number that grows with `value`: bits of negative floats fall."""
    bits = wp.cast(value, wp.uint32)
    if value < 0.0:
        return wp.uint64(~bits)
    return wp.uint64(bits | (wp.uint32(1) << wp.uint32(31)))


@wp.kernel(enable_backward=False)
@no_type_check
def bound_kernel(
    start: wp.int32,
    vertices: wp.int32,
    triangles: wp.int32,
    height: wp.int32,
    width: wp.int32,
    pos: wp.array(dtype=wp.vec4),
    tri: wp.array(dtype=wp.vec3i),
    boxes: wp.array(dtype=wp.vec4i),
):
    """Store first column, last column, first row, last row of every triangle of every view."""
    item = start + wp.tid()
    t = tri[item % triangles]
    first = item / triangles * vertices
    low = wp.vec2(1.0e9, 1.0e9)
    high = wp.vec2(-1.0e9, -1.0e9)
    front = wp.int32(0)
    for k in range(3):
        v = pos[first + t[k]]
        if v[3] > 1.0e-6:
            front += 1
            x = (v[0] / v[3] + 1.0) * 0.5 * wp.float32(width) - 0.5
            y = (v[1] / v[3] + 1.0) * 0.5 * wp.float32(height) - 0.5
            low = wp.vec2(wp.min(low[0], x), wp.min(low[1], y))
            high = wp.vec2(wp.max(high[0], x), wp.max(high[1], y))
    box = wp.vec4i(0, width - 1, 0, height - 1)
    if front == 0:
        box = wp.vec4i(0, -1, 0, -1)
    if front == 3:
        # a margin for rounding; pixels outside the triangle are refused later
        limit = wp.float32(1 << 20)
        box = wp.vec4i(
            wp.max(wp.int32(wp.ceil(wp.clamp(low[0] - 1.0e-3, -limit, limit))), 0),
            wp.min(wp.int32(wp.floor(wp.clamp(high[0] + 1.0e-3, -limit, limit))), width - 1),
            wp.max(wp.int32(wp.ceil(wp.clamp(low[1] - 1.0e-3, -limit, limit))), 0),
            wp.min(wp.int32(wp.floor(wp.clamp(high[1] + 1.0e-3, -limit, limit))), height - 1),
        )
    boxes[item] = box


@wp.kernel(enable_backward=False)
@no_type_check
def depth_kernel(
    start: wp.int32,
    length: wp.int32,
    vertices: wp.int32,
    triangles: wp.int32,
    height: wp.int32,
    width: wp.int32,
    pos: wp.array(dtype=wp.vec4),
    tri: wp.array(dtype=wp.vec3i),
    boxes: wp.array(dtype=wp.vec4i),
    keys: wp.array(dtype=wp.uint64),
):
    """Put one triangle of one view into the rows [start, start + length) of the z-buffer."""
    item = wp.tid()
    box = boxes[item]
    low = wp.max(box[2], start)
    high = wp.min(box[3], start + length - 1)
    if low > high or box[0] > box[1]:
        return
    view = item / triangles
    t = tri[item % triangles]
    a = pos[view * vertices + t[0]]
    b = pos[view * vertices + t[1]]
    c = pos[view * vertices + t[2]]
    for row in range(low, high + 1):
        y = center(row, height)
        for column in range(box[0], box[1] + 1):
            e = edges(a, b, c, t, center(column, width), y)
            total = e[0] + e[1] + e[2]
            if total < 0.0:
                e = -e
                total = -total
            if total > 0.0 and e[0] >= 0.0 and e[1] >= 0.0 and e[2] >= 0.0:
                z = (e[0] * a[2] + e[1] * b[2] + e[2] * c[2]) / total
                w = (e[0] * a[3] + e[1] * b[3] + e[2] * c[3]) / total
                if w > 0.0 and wp.abs(z) <= w:
                    key = (ordered(z / w) << wp.uint64(32)) | wp.uint64(item % triangles)
                    wp.atomic_min(keys, (view * height + row) * width + column, key)


@wp.kernel(enable_backward=False)
@no_type_check
def weight_kernel(
    start: wp.int32,
    vertices: wp.int32,
    height: wp.int32,
    width: wp.int32,
    pos: wp.array(dtype=wp.vec4),
    tri: wp.array(dtype=wp.vec3i),
    keys: wp.array(dtype=wp.uint64),
    rast: wp.array(dtype=wp.vec4),
):
    pixel = start + wp.tid()
    key = keys[pixel]
    if key == wp.uint64(0xFFFFFFFFFFFFFFFF):
        return
    index = wp.int32(key & wp.uint64(0xFFFFFFFF))
    t = tri[index]
    first = pixel / (height * width) * vertices
    a = pos[first + t[0]]
    b = pos[first + t[1]]
    c = pos[first + t[2]]
    e = edges(a, b, c, t, center(pixel % width, width), center(pixel / width % height, height))
    weight = e / (e[0] + e[1] + e[2])
    z = weight[0] * a[2] + weight[1] * b[2] + weight[2] * c[2]
    w = weight[0] * a[3] + weight[1] * b[3] + weight[2] * c[3]
    rast[pixel] = wp.vec4(weight[0], weight[1], z / w, wp.float32(index + 1))


@wp.func
@no_type_check
def turned(v: wp.vec2):
    """Return J v."""
    return wp.vec2(v[1], -v[0])


@wp.func
@no_type_check
def add(
    to_pos: wp.array(dtype=wp.float32), vertex: wp.int32, g: wp.vec2, x: wp.float32, y: wp.float32
):
    wp.atomic_add(to_pos, 4 * vertex, g[0])
    wp.atomic_add(to_pos, 4 * vertex + 1, g[1])
    wp.atomic_add(to_pos, 4 * vertex + 3, -(x * g[0] + y * g[1]))


@wp.kernel(enable_backward=False)
@no_type_check
def gradient_kernel(
    start: wp.int32,
    vertices: wp.int32,
    height: wp.int32,
    width: wp.int32,
    pos: wp.array(dtype=wp.vec4),
    tri: wp.array(dtype=wp.vec3i),
    rast: wp.array(dtype=wp.vec4),
    to_rast: wp.array(dtype=wp.vec4),
    to_pos: wp.array(dtype=wp.float32),
):
    pixel = start + wp.tid()
    seen = rast[pixel]
    g = to_rast[pixel]
    if seen[3] == 0.0 or (g[0] == 0.0 and g[1] == 0.0):
        return
    t = tri[wp.int32(seen[3]) - 1]
    first = pixel / (height * width) * vertices
    x = center(pixel % width, width)
    y = center(pixel / width % height, height)
    p = moved(pos[first + t[0]], x, y)
    q = moved(pos[first + t[1]], x, y)
    r = moved(pos[first + t[2]], x, y)
    total = cross(q, r) + cross(r, p) + cross(p, q)
    mean = g[0] * seen[0] + g[1] * seen[1]
    to_e = wp.vec3(g[0] - mean, g[1] - mean, -mean) / total
    add(to_pos, first + t[0], to_e[2] * turned(q) - to_e[1] * turned(r), x, y)
    add(to_pos, first + t[1], to_e[0] * turned(r) - to_e[2] * turned(p), x, y)
    add(to_pos, first + t[2], to_e[1] * turned(p) - to_e[0] * turned(q), x, y)


class _Rasterize(Function):
    """What pixels see, with gradients from the weights to clip space."""

    @staticmethod
    def forward(ctx: Any, pos: Tensor, tri: Tensor, resolution: tuple[int, int]) -> Tensor:
        batch, vertices = pos.shape[:2]
        height, width = resolution
        items = batch * len(tri)
        boxes = torch.empty(items, 4, dtype=torch.int32, device=pos.device)
        keys = torch.full((batch * height * width,), -1, dtype=torch.int64, device=pos.device)
        rast = pos.new_zeros(batch, height, width, 4)
        sizes = [vertices, len(tri), height, width]
        launch_split(bound_kernel, items, [*sizes, pos, tri, boxes], pos.device)
        if items:
            inputs = [*sizes, pos, tri, boxes, keys]
            launch_split(depth_kernel, height, inputs, pos.device, tasks=lambda _: items, grain=8)
        inputs = [vertices, height, width, pos, tri, keys, rast.view(-1, 4)]
        launch_split(weight_kernel, len(keys), inputs, pos.device)
        ctx.save_for_backward(pos, tri, rast)
        return rast

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        pos, tri, rast = ctx.saved_tensors
        batch, height, width, _ = rast.shape
        to_rast = cotangents[0].contiguous()
        inputs = [pos.shape[1], height, width, pos, tri, rast, to_rast]
        to_pos = launch_scatter(
            gradient_kernel, batch * height * width, inputs, tuple(pos.shape), pos.device
        )
        return to_pos, None, None
