# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false
"""Silhouette edges between neighbouring pixels, on Warp kernels.

Rules and names are those of `dreamlab.ops.triangles.antialias`. One kernel marks silhouette edges;
another walks along each, which are few, and leaves in the cell of a pair of pixels the greatest
key: d above the complement of the edge's place in the list, so that of equals the first wins.
"""

from typing import no_type_check

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.topology import Topology
from dreamlab.ops.triangles.antialias import Crossings
from dreamlab.ops.warp_setup import launch_split

wp.set_module_options({"enable_backward": False})

_LAST = 2**32 - 1
"""Greatest number below the d of a key."""
_IN_ONE_RANGE = 2**31 - 1
"""More items than there are: edges share cells, so their walk is not split."""


@wp.func
@no_type_check
def side_of(a: wp.vec3, b: wp.vec3, c: wp.vec3):
    """Return the sign of (b - a) x (c - a) as an integer; 0 behind the camera."""
    side = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if side > 0.0:
        return wp.int32(1)
    if side < 0.0:
        return wp.int32(-1)
    return wp.int32(0)


@wp.kernel(enable_backward=False)
@no_type_check
def mark_kernel(
    start: wp.int32,
    vertices: wp.int32,
    edges: wp.int32,
    pixels: wp.array(dtype=wp.vec3),
    ends: wp.array(dtype=wp.vec2i),
    opposite: wp.array(dtype=wp.vec2i),
    sides: wp.array(dtype=wp.int32),
):
    """Store the side on which the surface lies of a silhouette edge, else 0."""
    item = start + wp.tid()
    first = item / edges * vertices
    e = ends[item % edges]
    o = opposite[item % edges]
    a = pixels[first + e[0]]
    b = pixels[first + e[1]]
    result = side_of(a, b, pixels[first + o[0]])
    if o[1] >= 0:
        if side_of(a, b, pixels[first + o[1]]) != result:
            result = 0
    sides[item] = result


@wp.kernel(enable_backward=False)
@no_type_check
def walk_kernel(
    start: wp.int32,
    vertices: wp.int32,
    edges: wp.int32,
    height: wp.int32,
    width: wp.int32,
    cells: wp.int32,
    pixels: wp.array(dtype=wp.vec3),
    ends: wp.array(dtype=wp.vec2i),
    silhouettes: wp.array(dtype=wp.int32),
    sides: wp.array(dtype=wp.int32),
    rast: wp.array(dtype=wp.vec4),
    keys: wp.array(dtype=wp.uint64),
):
    """Offer a silhouette edge to all pairs of pixels that it passes between.

    Cells [0, cells) are pairs in a row, [cells, 2 cells) pairs in a column, by their lower pixel.
    """
    place = start + wp.tid()
    item = silhouettes[place]
    view = item / edges
    e = ends[item % edges]
    a = pixels[view * vertices + e[0]]
    b = pixels[view * vertices + e[1]]
    side = wp.float32(sides[item])
    lines = height
    length = width
    to_line = width
    to_next = wp.int32(1)
    first_cell = wp.int32(0)
    if wp.abs(b[1] - a[1]) < wp.abs(b[0] - a[0]):
        a = wp.vec3(a[1], a[0], a[2])
        b = wp.vec3(b[1], b[0], b[2])
        side = -side
        lines = width
        length = height
        to_line = wp.int32(1)
        to_next = width
        first_cell = cells
    low = wp.int32(wp.max(wp.ceil(wp.min(a[1], b[1])), 0.0))
    high = wp.int32(wp.min(wp.ceil(wp.max(a[1], b[1])), wp.float32(lines)))
    front_is_high = side * (b[1] - a[1]) < 0.0
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
                bits = wp.uint64(wp.cast(d, wp.uint32))
                key = (bits << wp.uint64(32)) | (wp.uint64(0xFFFFFFFF) - wp.uint64(place))
                wp.atomic_max(keys, first_cell + lower, key)


@torch.no_grad()
def find_crossings(
    rast: Float[Tensor, "batch height width 4"],
    pixels: Float[Tensor, "batch vertices 3"],
    topology: Topology,
) -> Crossings:
    """Find all crossings; see `silhouettes_reference.find_crossings`.

    Raises:
        InputError: the positions are not float32.
    """
    if not rast.dtype == pixels.dtype == torch.float32:
        raise InputError(
            f"antialias on backend 'warp' needs float32, got {rast.dtype} and {pixels.dtype}.",
            "Convert them with .float(), or use backend 'reference'.",
        )
    batch, height, width, _ = rast.shape
    device, edges, vertices = rast.device, len(topology.edges), pixels.shape[1]
    ends, opposite = topology.edges.int(), topology.opposite.int()
    pixels, rast = pixels.contiguous(), rast.contiguous()
    sides = torch.zeros(batch * edges, dtype=torch.int32, device=device)
    inputs = [vertices, edges, pixels, ends, opposite, sides]
    launch_split(mark_kernel, len(sides), inputs, device)
    silhouettes = torch.nonzero(sides)[:, 0].int()
    cells = batch * height * width
    keys = torch.zeros(2 * cells, dtype=torch.int64, device=device)
    inputs = [vertices, edges, height, width, cells]
    inputs += [pixels, ends, silhouettes, sides, rast, keys]
    launch_split(walk_kernel, len(silhouettes), inputs, device, grain=_IN_ONE_RANGE)
    cell = torch.nonzero(keys)[:, 0]
    item = silhouettes[_LAST - (keys[cell] & _LAST)].long()
    view, edge = item // edges, item % edges
    pixel = cell % cells
    in_column = cell >= cells
    a, b = pixels[view[:, None], topology.edges[edge], :2].unbind(dim=1)
    run = torch.where(in_column, b[:, 0] - a[:, 0], a[:, 1] - b[:, 1])
    return Crossings(
        view,
        pixel // width % height,
        pixel % width,
        in_column,
        sides[item] * run > 0,
        edge,
    )
