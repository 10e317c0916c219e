# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false
"""Rasterization on Warp kernels, with the backward pass by hand.

Formulas and names are those of `dreamlab.ops.triangles.rasterize`. Three passes: where vertices are
seen; triangles, pixel by pixel of the box around them, into a z-buffer, whose 64-bit keys hold
z / w above the triangle number, so that the least key is the nearest triangle; pixels to weights.
On a CPU the z-buffer is cut into strips of rows, one a thread where there is work enough, each of
which visits all triangles: no two threads share a pixel.

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
from dreamlab.ops.triangles.places_warp import NEAREST_W, places_of
from dreamlab.ops.warp_setup import (
    LIGHT_GRAIN,
    launch_scatter,
    launch_split,
    pixel_runs,
    runs_in_turn,
)

wp.set_module_options({"enable_backward": False})

NOTHING = wp.constant(wp.uint64(2**64 - 1))
"""The key of a pixel that sees no triangle."""


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
def moved(v: wp.vec4, x: wp.float32, y: wp.float32):
    """Return p: a corner as the pixel at (x, y) sees it."""
    return wp.vec2(v[0] - x * v[3], v[1] - y * v[3])


@wp.func
@no_type_check
def edges(a: wp.vec4, b: wp.vec4, c: wp.vec4, x: wp.float32, y: wp.float32):
    """Return (e_0, e_1, e_2), each evaluated from its earlier corner."""
    p = moved(a, x, y)
    q = moved(b, x, y)
    r = moved(c, x, y)
    return wp.vec3(cross(q, r), -cross(p, r), cross(p, q))


@wp.func
@no_type_check
def in_order(t: wp.vec3i):
    """Return the three numbers, the least first."""
    low = wp.min(wp.min(t[0], t[1]), t[2])
    high = wp.max(wp.max(t[0], t[1]), t[2])
    return wp.vec3i(low, t[0] + t[1] + t[2] - low - high, high)


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
    return wp.uint64(wp.where(value < 0.0, ~bits, bits | (wp.uint32(1) << wp.uint32(31))))


@wp.func
@no_type_check
def lesser(a: wp.float32, b: wp.float32):
    """Return the minimum; unlike `wp.min` in one instruction, and the second if one is NaN."""
    return wp.where(a < b, a, b)


@wp.func
@no_type_check
def greater(a: wp.float32, b: wp.float32):
    """Return the maximum; unlike `wp.max` in one instruction, and the second if one is NaN."""
    return wp.where(a > b, a, b)


@wp.func
@no_type_check
def span(
    a: wp.float32,
    b: wp.float32,
    c: wp.float32,
    margin: wp.float32,
    first: wp.int32,
    last: wp.int32,
):
    """Return the first and the last centre of [first, last] within a `margin` of three numbers.

    All centres if the margin is NaN.
    """
    low = lesser(lesser(a, b), c) - margin
    high = greater(greater(a, b), c) + margin
    low = lesser(greater(low, wp.float32(first)), wp.float32(last + 1))
    high = greater(lesser(high, wp.float32(last)), wp.float32(first - 1))
    return wp.int32(wp.ceil(low)), wp.int32(wp.floor(high))


@wp.func
@no_type_check
def box_of(u: wp.vec3, v: wp.vec3, w: wp.vec3, width: wp.int32, top: wp.int32, bottom: wp.int32):
    """Return first column, last column, first row, last row around the places of a triangle.

    Rows are of [top, bottom]; a box is empty where a last one is below its first one. There is a
    margin for rounding: pixels that are outside the triangle are refused later. It is NaN, and the
    box the whole picture, if a corner is behind the camera.
    """
    margin = 1.0e-3 + 0.0 * (u[0] + v[0] + w[0])
    left, right = span(u[0], v[0], w[0], margin, 0, width - 1)
    low, high = span(u[1], v[1], w[1], margin, top, bottom)
    return left, right, low, high


@wp.func
@no_type_check
def key_of(a: wp.vec4, b: wp.vec4, c: wp.vec4, triangle: wp.int32, x: wp.float32, y: wp.float32):
    """Return the key of a triangle if the centre at (x, y) sees it, else that of nothing.

    No processor can foretell whether it does, so there is no branch. Numbers z and w are S times
    those of the point that is seen, whose w is positive if w has the sign of all e_k.
    """
    e = edges(a, b, c, x, y)
    z = wp.dot(e, wp.vec3(a[2], b[2], c[2]))
    w = wp.dot(e, wp.vec3(a[3], b[3], c[3]))
    least = lesser(lesser(e[0], e[1]), e[2])
    greatest = greater(greater(e[0], e[1]), e[2])
    within = lesser(wp.where(w > 0.0, least, -greatest), wp.abs(w) - wp.abs(z))
    key = (ordered(z / w) << wp.uint64(32)) | wp.uint64(triangle)
    return wp.where(within >= 0.0 and w != 0.0, key, NOTHING)


@wp.func
@no_type_check
def box_around(
    triangle: wp.int32,
    first: wp.int32,
    width: wp.int32,
    top: wp.int32,
    bottom: wp.int32,
    places: wp.array(dtype=wp.vec3),
    tri: wp.array(dtype=wp.vec3i),
):
    """Return `box_of` a triangle in the view whose vertices begin at `first`."""
    t = tri[triangle]
    u = places[first + t[0]]
    v = places[first + t[1]]
    w = places[first + t[2]]
    left, right, low, high = box_of(u, v, w, width, top, bottom)
    return wp.vec4i(left, right, low, high)


@wp.kernel(enable_backward=False)
@no_type_check
def depth_kernel(
    start: wp.int32,
    length: wp.int32,
    run: wp.int32,
    batch: wp.int32,
    vertices: wp.int32,
    height: wp.int32,
    width: wp.int32,
    pos: wp.array(dtype=wp.vec4),
    places: wp.array(dtype=wp.vec3),
    tri: wp.array(dtype=wp.vec3i),
    keys: wp.array(dtype=wp.uint64),
):
    """Put `run` triangles of all views into the rows [start, start + length) of their z-buffers.

    With their corners in the order of their numbers, so that an edge comes to the same for both of
    its triangles; which way round they go does not matter here. The box of a triangle is found
    while the one before is drawn: no processor can foretell how many pixels a small triangle has,
    and it loses the less by guessing wrong, the sooner it learns of it.
    """
    begin = wp.tid() * run
    last = start + length - 1
    for view in range(batch):
        first = view * vertices
        box = box_around(begin, first, width, start, last, places, tri)
        triangle = wp.int32(begin)
        while triangle < begin + run:
            drawn = box
            if triangle + 1 < begin + run:
                box = box_around(triangle + 1, first, width, start, last, places, tri)
            if drawn[0] <= drawn[1] and drawn[2] <= drawn[3]:
                t = in_order(tri[triangle])
                a = pos[first + t[0]]
                b = pos[first + t[1]]
                c = pos[first + t[2]]
                if greater(greater(a[3], b[3]), c[3]) > NEAREST_W:
                    row = wp.int32(drawn[2])
                    while row <= drawn[3]:
                        y = center(row, height)
                        column = wp.int32(drawn[0])
                        while column <= drawn[1]:
                            key = key_of(a, b, c, triangle, center(column, width), y)
                            wp.atomic_min(keys, (view * height + row) * width + column, key)
                            column += 1
                        row += 1
            triangle += 1


@wp.kernel(enable_backward=False)
@no_type_check
def weight_kernel(
    start: wp.int32,
    run: wp.int32,
    vertices: wp.int32,
    height: wp.int32,
    width: wp.int32,
    pos: wp.array(dtype=wp.vec4),
    tri: wp.array(dtype=wp.vec3i),
    keys: wp.array(dtype=wp.uint64),
    rast: wp.array(dtype=wp.vec4),
):
    """Turn the keys of `run` pixels of a row into what they see."""
    pixel = (start + wp.tid()) * run
    line = pixel / width
    column = pixel - line * width
    view = line / height
    y = center(line - view * height, height)
    i = wp.int32(0)
    while i < run:
        key = keys[pixel + i]
        if key == NOTHING:
            rast[pixel + i] = wp.vec4()
        else:
            index = wp.int32(key & wp.uint64(0xFFFFFFFF))
            t = tri[index]
            a = pos[view * vertices + t[0]]
            b = pos[view * vertices + t[1]]
            c = pos[view * vertices + t[2]]
            e = edges(a, b, c, center(column + i, width), y)
            weight = e / (e[0] + e[1] + e[2])
            z = weight[0] * a[2] + weight[1] * b[2] + weight[2] * c[2]
            w = weight[0] * a[3] + weight[1] * b[3] + weight[2] * c[3]
            rast[pixel + i] = wp.vec4(weight[0], weight[1], z / w, wp.float32(index + 1))
        i += 1


@wp.func
@no_type_check
def turned(v: wp.vec2):
    """Return J v."""
    return wp.vec2(v[1], -v[0])


@wp.func
@no_type_check
def add(
    to_pos: wp.array(dtype=wp.vec4), vertex: wp.int32, g: wp.vec2, x: wp.float32, y: wp.float32
):
    wp.atomic_add(to_pos, vertex, wp.vec4(g[0], g[1], 0.0, -(x * g[0] + y * g[1])))


@wp.kernel(enable_backward=False)
@no_type_check
def gradient_kernel(
    start: wp.int32,
    run: wp.int32,
    vertices: wp.int32,
    height: wp.int32,
    width: wp.int32,
    pos: wp.array(dtype=wp.vec4),
    tri: wp.array(dtype=wp.vec3i),
    rast: wp.array(dtype=wp.vec4),
    to_rast: wp.array(dtype=wp.vec4),
    to_pos: wp.array(dtype=wp.vec4),
):
    """Add what `run` pixels of a row say of the corners of the triangles that they see."""
    pixel = (start + wp.tid()) * run
    line = pixel / width
    column = pixel - line * width
    view = line / height
    first = view * vertices
    y = center(line - view * height, height)
    i = wp.int32(0)
    while i < run:
        seen = rast[pixel + i]
        g = to_rast[pixel + i]
        if seen[3] != 0.0 and (g[0] != 0.0 or g[1] != 0.0):
            t = tri[wp.int32(seen[3]) - 1]
            x = center(column + i, width)
            p = moved(pos[first + t[0]], x, y)
            q = moved(pos[first + t[1]], x, y)
            r = moved(pos[first + t[2]], x, y)
            total = cross(q, r) + cross(r, p) + cross(p, q)
            mean = g[0] * seen[0] + g[1] * seen[1]
            to_e = wp.vec3(g[0] - mean, g[1] - mean, -mean) / total
            add(to_pos, first + t[0], to_e[2] * turned(q) - to_e[1] * turned(r), x, y)
            add(to_pos, first + t[1], to_e[0] * turned(r) - to_e[2] * turned(p), x, y)
            add(to_pos, first + t[2], to_e[1] * turned(p) - to_e[0] * turned(q), x, y)
        i += 1


class _Rasterize(Function):
    """What pixels see, with gradients from the weights to clip space."""

    @staticmethod
    def forward(ctx: Any, pos: Tensor, tri: Tensor, resolution: tuple[int, int]) -> Tensor:
        batch, vertices = pos.shape[:2]
        height, width = resolution
        keys = torch.full((batch * height * width,), -1, dtype=torch.int64, device=pos.device)
        if batch and len(tri):
            places = places_of(pos, height, width)
            run = len(tri) if runs_in_turn(pos.device) else 1
            inputs = [run, batch, vertices, height, width, pos, places, tri, keys]
            # a strip pays if it has triangles and pixels enough
            work = batch * (len(tri) + height * width)
            launch_split(
                depth_kernel,
                height,
                inputs,
                pos.device,
                tasks=lambda _: len(tri) // run,
                ranges_per_thread=1,
                grain=-(-height * LIGHT_GRAIN // work),
            )
        rast = torch.empty(batch, height, width, 4, dtype=pos.dtype, device=pos.device)
        runs = pixel_runs(len(keys), width, pos.device)
        inputs = [runs.length, vertices, height, width, pos, tri, keys, rast]
        launch_split(weight_kernel, runs.count, inputs, pos.device, grain=runs.grain)
        ctx.save_for_backward(pos, tri, rast)
        return rast

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        pos, tri, rast = ctx.saved_tensors
        batch, height, width, _ = rast.shape
        runs = pixel_runs(batch * height * width, width, pos.device)
        inputs = [runs.length, pos.shape[1], height, width, pos, tri, rast]
        inputs.append(cotangents[0].contiguous())
        shape = tuple(pos.shape)
        to_pos = launch_scatter(
            gradient_kernel, runs.count, inputs, shape, pos.device, grain=runs.grain
        )
        return to_pos, None, None
