# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false
"""Antialiasing on Warp kernels, with the backward pass by hand.

Rules and names are those of `dreamlab.ops.triangles.antialias`. Every pair of neighbouring pixels
has a cell: after a row that stays empty, those of pairs in a column by the lower pixel, then those
of pairs in a row. So the cells before and below the first pixels exist, and are empty. Two passes:
each silhouette edge walks between the pixels and leaves in the cells that it crosses the greatest
key,

    d (32 bits) | complement of the edge's number (31 bits) | whether the higher pixel is in front,

so that the outermost edge wins, and of equals the first; then each pixel looks into the cells of
its four neighbours and sums what they blend into it. So no two threads write to one pixel.

With delta = d - 1/2 and m the pixel that is blended, k if delta > 0, else f,

    c_m <- c_m + delta (c_f - c_k),
    dL/dc_f = delta g,   dL/dc_k = -delta g,   dL/dd = g . (c_f - c_k),   g = dL/dc_m after it,

beside dL/dc = g of every pixel itself. In pixel units, for neighbours in a row, an edge from a to b
crosses at x = a_x + s (b_x - a_x), s = (y - a_y) / (b_y - a_y), so with the slope
n = (b_x - a_x) / (b_y - a_y)

    dx/da = (1 - s) (1, -n),   dx/db = s (1, -n),   d = +-(x - x_f),

and columns a_x = (x / w + 1) W / 2 - 1/2 have da_x/dx = W / 2w, da_x/dw = -x W / 2w^2; rows
likewise.
"""

from typing import Any, no_type_check

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dreamlab.core.errors import InputError
from dreamlab.core.topology import Topology
from dreamlab.ops.triangles.places_warp import place_of, places_of
from dreamlab.ops.warp_setup import (
    LIGHT_GRAIN,
    Runs,
    launch_scatter,
    launch_split,
    pixel_runs,
)

wp.set_module_options({"enable_backward": False})

EDGE_LIMIT = wp.constant(2**31 - 1)
"""Numbers of edges are stored as what they lack of this."""


def antialias(
    color: Float[Tensor, "batch height width channels"],
    rast: Float[Tensor, "batch height width 4"],
    pos: Float[Tensor, "batch vertices 4"],
    topology: Topology,
) -> Float[Tensor, "batch height width channels"]:
    """Blend pixels along silhouettes; see `dreamlab.ops.triangles.antialias.antialias`.

    Raises:
        InputError: colours or positions are not float32.
    """
    if not color.dtype == rast.dtype == pos.dtype == torch.float32:
        raise InputError(
            f"antialias on backend 'warp' needs float32, got {color.dtype}, {rast.dtype} and "
            f"{pos.dtype}.",
            "Convert them with .float(), or use backend 'reference'.",
        )
    tensors = (color.contiguous(), rast.contiguous(), pos.contiguous())
    return _Antialias.apply(*tensors, topology.corners)


@wp.func
@no_type_check
def side_of(a: wp.vec3, b: wp.vec3, c: wp.vec3):
    """Return (b - a) x (c - a), whose sign is the side; NaN if one of them is nowhere."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@wp.func
@no_type_check
def walk(
    a: wp.vec3,
    b: wp.vec3,
    toward: wp.float32,
    edge: wp.int32,
    view: wp.int32,
    height: wp.int32,
    width: wp.int32,
    cells: wp.int32,
    rast: wp.array(dtype=wp.vec4),
    keys: wp.array(dtype=wp.uint64),
):
    """Offer a silhouette edge to all pairs that it passes between.

    The sign of `toward` is the side of it where the surface is.
    """
    lines = height
    length = width
    to_line = width
    to_next = wp.int32(1)
    first_cell = width + cells
    if wp.abs(b[1] - a[1]) < wp.abs(b[0] - a[0]):
        a = wp.vec3(a[1], a[0], a[2])
        b = wp.vec3(b[1], b[0], b[2])
        toward = -toward
        lines = width
        length = height
        to_line = wp.int32(1)
        to_next = width
        first_cell = width
    low = wp.int32(wp.max(wp.ceil(wp.min(a[1], b[1])), 0.0))
    high = wp.int32(wp.min(wp.ceil(wp.max(a[1], b[1])), wp.float32(lines)))
    front_is_high = toward * (b[1] - a[1]) < 0.0
    name = wp.uint64(EDGE_LIMIT - edge) << wp.uint64(1)
    if front_is_high:
        name = name | wp.uint64(1)
    for line in range(low, high):
        s = (wp.float32(line) - a[1]) / (b[1] - a[1])
        x = a[0] + s * (b[0] - a[0])
        z = a[2] + s * (b[2] - a[2])
        left = wp.floor(x)
        if left >= 0.0 and left + 1.0 < wp.float32(length):
            lower = view * height * width + line * to_line + wp.int32(left) * to_next
            front = lower
            back = lower + to_next
            d = x - left
            if front_is_high:
                front = back
                back = lower
                d = left + 1.0 - x
            seen = rast[front]
            behind = rast[back]
            is_nearer = behind[3] == 0.0 or (seen[2] < behind[2] and z < behind[2])
            if seen[3] > 0.0 and seen[3] != behind[3] and is_nearer:
                key = (wp.uint64(wp.cast(d, wp.uint32)) << wp.uint64(32)) | name
                wp.atomic_max(keys, first_cell + lower, key)


@wp.kernel(enable_backward=False)
@no_type_check
def silhouette_kernel(
    start: wp.int32,
    batch: wp.int32,
    vertices: wp.int32,
    height: wp.int32,
    width: wp.int32,
    cells: wp.int32,
    places: wp.array(dtype=wp.vec3),
    corners: wp.array(dtype=wp.vec4i),
    rast: wp.array(dtype=wp.vec4),
    keys: wp.array(dtype=wp.uint64),
):
    """Look whether an edge is a silhouette in each of the views, and if so walk along it."""
    edge = start + wp.tid()
    e = corners[edge]
    for view in range(batch):
        first = view * vertices
        a = places[first + e[0]]
        b = places[first + e[1]]
        side = side_of(a, b, places[first + e[2]])
        other = side_of(a, b, places[first + wp.where(e[3] < 0, e[2], e[3])])
        if side * other > 0.0:
            walk(a, b, side, edge, view, height, width, cells, rast, keys)


@wp.func
@no_type_check
def delta_of(key: wp.uint64):
    """Return d - 1/2."""
    return wp.cast(wp.uint32(key >> wp.uint64(32)), wp.float32) - 0.5


@wp.func
@no_type_check
def front_and_back(key: wp.uint64, low: wp.int32, high: wp.int32):
    """Return the front pixel f and the back pixel k of a pair."""
    if (key & wp.uint64(1)) == wp.uint64(1):
        return wp.vec2i(high, low)
    return wp.vec2i(low, high)


@wp.func
@no_type_check
def blend(
    key: wp.uint64,
    low: wp.int32,
    high: wp.int32,
    pixel: wp.int32,
    channels: wp.int32,
    color: wp.array(dtype=wp.float32),
    picture: wp.array(dtype=wp.float32),
):
    """Blend into `pixel`, if it is the one of its pair that is blended."""
    delta = delta_of(key)
    pair = front_and_back(key, low, high)
    blended = wp.where(delta > 0.0, pair[1], pair[0])
    if key != wp.uint64(0) and blended == pixel:
        i = wp.int32(0)
        while i < channels:
            step = color[pair[0] * channels + i] - color[pair[1] * channels + i]
            picture[pixel * channels + i] += delta * step
            i += 1


@wp.kernel(enable_backward=False)
@no_type_check
def blend_kernel(
    start: wp.int32,
    run: wp.int32,
    width: wp.int32,
    cells: wp.int32,
    channels: wp.int32,
    keys: wp.array(dtype=wp.uint64),
    color: wp.array(dtype=wp.float32),
    picture: wp.array(dtype=wp.float32),
):
    """Blend `run` pixels of a row with their neighbours; `picture` holds `color` at first."""
    first = (start + wp.tid()) * run
    p = wp.int32(first)
    while p < first + run:
        above = keys[width + p]
        below = keys[p]
        after = keys[width + cells + p]
        before = keys[width + cells + p - 1]
        if (above | below | after | before) != wp.uint64(0):
            blend(above, p, p + width, p, channels, color, picture)
            blend(below, p - width, p, p, channels, color, picture)
            blend(after, p, p + 1, p, channels, color, picture)
            blend(before, p - 1, p, p, channels, color, picture)
        p += 1


@wp.func
@no_type_check
def spread(
    key: wp.uint64,
    low: wp.int32,
    high: wp.int32,
    pixel: wp.int32,
    channels: wp.int32,
    to_picture: wp.array(dtype=wp.float32),
    to_color: wp.array(dtype=wp.float32),
):
    """Add to dL/dc of `pixel` what it gave to the blended one of its pair."""
    delta = delta_of(key)
    pair = front_and_back(key, low, high)
    blended = wp.where(delta > 0.0, pair[1], pair[0])
    share = wp.where(pixel == pair[0], delta, -delta)
    if key != wp.uint64(0):
        i = wp.int32(0)
        while i < channels:
            to_color[pixel * channels + i] += share * to_picture[blended * channels + i]
            i += 1


@wp.func
@no_type_check
def slope_of(
    key: wp.uint64,
    low: wp.int32,
    high: wp.int32,
    channels: wp.int32,
    color: wp.array(dtype=wp.float32),
    to_picture: wp.array(dtype=wp.float32),
):
    """Return dL/dx of the place x where an edge crosses between two pixels."""
    pair = front_and_back(key, low, high)
    blended = wp.where(delta_of(key) > 0.0, pair[1], pair[0])
    to_d = wp.float32(0.0)
    i = wp.int32(0)
    while i < channels:
        step = color[pair[0] * channels + i] - color[pair[1] * channels + i]
        to_d += to_picture[blended * channels + i] * step
        i += 1
    return wp.where(pair[0] == high, -to_d, to_d)


@wp.func
@no_type_check
def add(
    to_pos: wp.array(dtype=wp.float32),
    vertex: wp.int32,
    v: wp.vec4,
    to_column: wp.float32,
    to_row: wp.float32,
    height: wp.int32,
    width: wp.int32,
):
    """Add the gradient to a vertex's column and row to that of its clip space."""
    to_x = to_column * 0.5 * wp.float32(width) / v[3]
    to_y = to_row * 0.5 * wp.float32(height) / v[3]
    wp.atomic_add(to_pos, 4 * vertex, to_x)
    wp.atomic_add(to_pos, 4 * vertex + 1, to_y)
    wp.atomic_add(to_pos, 4 * vertex + 3, -(to_x * v[0] + to_y * v[1]) / v[3])


@wp.func
@no_type_check
def pull(
    key: wp.uint64,
    to_x: wp.float32,
    line: wp.int32,
    in_column: wp.bool,
    first: wp.int32,
    height: wp.int32,
    width: wp.int32,
    pos: wp.array(dtype=wp.vec4),
    corners: wp.array(dtype=wp.vec4i),
    to_pos: wp.array(dtype=wp.float32),
):
    """Add to the ends of the edge that crosses a line of centres (a row, or a column)."""
    e = corners[EDGE_LIMIT - wp.int32((key & wp.uint64(0xFFFFFFFF)) >> wp.uint64(1))]
    v = pos[first + e[0]]
    w = pos[first + e[1]]
    a = place_of(v, height, width)
    b = place_of(w, height, width)
    if in_column:
        s = (wp.float32(line) - a[0]) / (b[0] - a[0])
        n = (b[1] - a[1]) / (b[0] - a[0])
        add(to_pos, first + e[0], v, -n * (1.0 - s) * to_x, (1.0 - s) * to_x, height, width)
        add(to_pos, first + e[1], w, -n * s * to_x, s * to_x, height, width)
    else:
        s = (wp.float32(line) - a[1]) / (b[1] - a[1])
        n = (b[0] - a[0]) / (b[1] - a[1])
        add(to_pos, first + e[0], v, (1.0 - s) * to_x, -n * (1.0 - s) * to_x, height, width)
        add(to_pos, first + e[1], w, s * to_x, -n * s * to_x, height, width)


@wp.kernel(enable_backward=False)
@no_type_check
def gradient_kernel(
    start: wp.int32,
    run: wp.int32,
    vertices: wp.int32,
    height: wp.int32,
    width: wp.int32,
    cells: wp.int32,
    channels: wp.int32,
    pos: wp.array(dtype=wp.vec4),
    corners: wp.array(dtype=wp.vec4i),
    keys: wp.array(dtype=wp.uint64),
    color: wp.array(dtype=wp.float32),
    to_picture: wp.array(dtype=wp.float32),
    to_color: wp.array(dtype=wp.float32),
    to_pos: wp.array(dtype=wp.float32),
):
    """Finish dL/dc of `run` pixels of a row, and add to the edges above and after them.

    `to_color` holds `to_picture` at first.
    """
    first = (start + wp.tid()) * run
    line = first / width
    view = line / height
    row = line - view * height
    p = wp.int32(first)
    while p < first + run:
        above = keys[width + p]
        below = keys[p]
        after = keys[width + cells + p]
        before = keys[width + cells + p - 1]
        if (above | below | after | before) != wp.uint64(0):
            spread(above, p, p + width, p, channels, to_picture, to_color)
            spread(below, p - width, p, p, channels, to_picture, to_color)
            spread(after, p, p + 1, p, channels, to_picture, to_color)
            spread(before, p - 1, p, p, channels, to_picture, to_color)
            column = p - line * width
            base = view * vertices
            if above != wp.uint64(0):
                to_x = slope_of(above, p, p + width, channels, color, to_picture)
                pull(above, to_x, column, True, base, height, width, pos, corners, to_pos)
            if after != wp.uint64(0):
                to_x = slope_of(after, p, p + 1, channels, color, to_picture)
                pull(after, to_x, row, False, base, height, width, pos, corners, to_pos)
        p += 1


class _Antialias(Function):
    """Blended pictures, with gradients to colours and clip space."""

    @staticmethod
    def forward(ctx: Any, color: Tensor, rast: Tensor, pos: Tensor, corners: Tensor) -> Tensor:
        batch, height, width, channels = color.shape
        vertices, cells, device = pos.shape[1], batch * height * width, color.device
        places = places_of(pos, height, width)
        inputs = [batch, vertices, height, width, cells, places, corners, rast]
        # a range pays if it has more edges than there are cells to clear and to merge for it
        keys = launch_scatter(
            silhouette_kernel,
            len(corners),
            inputs,
            (width + 2 * cells,),
            device,
            grain=max(LIGHT_GRAIN, cells),
            dtype=torch.int64,
            merge=torch.amax,
        )
        runs = pixel_runs(cells, width, device)
        picture = color.clone()
        inputs = [runs.length, width, cells, channels, keys, color, picture]
        launch_split(blend_kernel, runs.count, inputs, device, grain=runs.grain)
        ctx.runs = runs
        ctx.save_for_backward(color, pos, corners, keys)
        return picture

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        color, pos, corners, keys = ctx.saved_tensors
        batch, height, width, channels = color.shape
        runs: Runs = ctx.runs
        to_picture = cotangents[0].contiguous()
        to_color = to_picture.clone()
        inputs = [runs.length, pos.shape[1], height, width, batch * height * width, channels]
        inputs += [pos, corners, keys, color, to_picture, to_color]
        to_pos = launch_scatter(
            gradient_kernel, runs.count, inputs, tuple(pos.shape), pos.device, grain=runs.grain
        )
        return to_color, None, to_pos, None
