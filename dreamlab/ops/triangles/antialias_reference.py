"""Antialiasing in plain torch: all crossings of silhouette edges, then their blends.

Rules and names are those of `dreamlab.ops.triangles.antialias`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dreamlab.core.topology import Topology


@dataclass(frozen=True)
class Crossings:
    """Pairs of neighbouring pixels with a silhouette edge between their centres, one a row."""

    view: Int[Tensor, " crossings"]
    row: Int[Tensor, " crossings"]
    """Of the lower pixel of the pair."""
    column: Int[Tensor, " crossings"]
    """Of the lower pixel of the pair."""
    in_column: Bool[Tensor, " crossings"]
    """Whether the neighbours are in one column, not in one row."""
    front_is_high: Bool[Tensor, " crossings"]
    """Whether the pixel of higher row or column is the front one."""
    edge: Int[Tensor, " crossings"]
    """Of the topology."""


def antialias(
    color: Float[Tensor, "batch height width channels"],
    rast: Float[Tensor, "batch height width 4"],
    pos: Float[Tensor, "batch vertices 4"],
    topology: Topology,
) -> Float[Tensor, "batch height width channels"]:
    """Blend pixels along silhouettes; see `dreamlab.ops.triangles.antialias.antialias`."""
    found = find_crossings(rast, to_pixels(pos.detach(), rast.shape), topology)
    return _blend(color, found, _distance(pos, rast.shape, topology, found))


def to_pixels(pos: Float[Tensor, "*vertices 4"], shape: torch.Size) -> Float[Tensor, "*vertices 3"]:
    """Return column, row (pixel units, centres at integers) and z / w; NaN behind the camera.

    Args:
        pos: clip space.
        shape: of the picture, [batch, height, width, channels].
    """
    w = pos[..., 3:].where(pos[..., 3:] > 1e-6, torch.nan)
    ndc = pos[..., :3] / w
    column = (ndc[..., 0] + 1) / 2 * shape[2] - 0.5
    row = (ndc[..., 1] + 1) / 2 * shape[1] - 0.5
    return torch.stack([column, row, ndc[..., 2]], dim=-1)


def _distance(
    pos: Tensor, shape: torch.Size, topology: Topology, found: Crossings
) -> Float[Tensor, " crossings"]:
    """Return d of every crossing."""
    ends = topology.edges[found.edge]
    a, b = to_pixels(pos[found.view[:, None], ends], shape)[..., :2].unbind(dim=1)
    swap = found.in_column[:, None]
    a, b = torch.where(swap, a.flip(-1), a), torch.where(swap, b.flip(-1), b)
    # from here on as for neighbours in a row
    line = torch.where(found.in_column, found.column, found.row)
    low = torch.where(found.in_column, found.row, found.column)
    s = (line - a[:, 1]) / (b[:, 1] - a[:, 1])
    beyond_low = a[:, 0] + s * (b[:, 0] - a[:, 0]) - low
    return torch.where(found.front_is_high, 1 - beyond_low, beyond_low)


def _blend(color: Tensor, found: Crossings, d: Tensor) -> Tensor:
    batch, height, width, channels = color.shape
    low = (found.view * height + found.row) * width + found.column
    high = low + torch.where(found.in_column, width, 1)
    front = torch.where(found.front_is_high, high, low)
    back = torch.where(found.front_is_high, low, high)
    pixels = color.reshape(-1, channels)
    reaches_back = d > 0.5
    blended = torch.where(reaches_back, back, front)
    difference = (pixels[front] - pixels[back]) * (d - 0.5)[:, None]
    return pixels.index_add(0, blended, difference).reshape(batch, height, width, channels)


@torch.no_grad()
def find_crossings(
    rast: Float[Tensor, "batch height width 4"],
    pixels: Float[Tensor, "batch vertices 3"],
    topology: Topology,
) -> Crossings:
    """Find all crossings.

    Args:
        rast: of `rasterize`.
        pixels: of `to_pixels`.
        topology: of the triangles.
    """
    view, edge, side = _silhouettes(pixels, topology)
    ends = pixels[view[:, None], topology.edges[edge]]
    parts = [_walk(rast, ends, view, edge, side, in_column) for in_column in (False, True)]
    return Crossings(*(torch.cat(pair) for pair in zip(*parts, strict=True)))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _silhouettes(pixels: Tensor, topology: Topology) -> tuple[Tensor, Tensor, Tensor]:
    """Return view, edge, and the side of the surface (sign of (b - a) x (corner - a))."""
    places = pixels[..., :2]
    a, b = places[:, topology.edges].unbind(dim=2)
    sides = _cross((b - a)[:, :, None], places[:, topology.opposite] - a[:, :, None]).sign()
    has_one = topology.opposite[:, 1] < 0
    is_silhouette = torch.where(has_one, sides[..., 0] != 0, sides[..., 0] * sides[..., 1] > 0)
    view, edge = torch.nonzero(is_silhouette & sides[..., 0].isfinite(), as_tuple=True)
    return view, edge, sides[view, edge, 0]


def _walk(
    rast: Tensor, ends: Tensor, view: Tensor, edge: Tensor, side: Tensor, in_column: bool
) -> tuple[Tensor, ...]:
    """Return the fields of `Crossings` between neighbours in a row, or in a column."""
    if in_column:
        ends, side = ends[..., [1, 0, 2]], -side
        rast = rast.transpose(1, 2)
    lines, width = rast.shape[1:3]
    (ax, ay, az), (bx, by, bz) = (end.unbind(dim=-1) for end in ends.unbind(dim=1))
    is_steep = (
        (by - ay).abs() >= (bx - ax).abs() if not in_column else (by - ay).abs() > (bx - ax).abs()
    )
    low, high = torch.minimum(ay, by).ceil().clamp(min=0), torch.maximum(ay, by).ceil()
    count = (high.clamp(max=lines) - low).clamp(min=0) * is_steep
    owner = torch.arange(len(edge), device=edge.device).repeat_interleave(count.long())
    begin = (count.cumsum(0) - count)[owner]
    line = low[owner] + torch.arange(len(owner), device=edge.device) - begin
    s = (line - ay[owner]) / (by - ay)[owner]
    x = ax[owner] + s * (bx - ax)[owner]
    z = az[owner] + s * (bz - az)[owner]
    left = x.floor()
    # the surface lies towards +x of an edge that runs up if its corner is on the right of it
    front_is_high = side[owner] * (by - ay)[owner] < 0
    inside = (left >= 0) & (left + 1 < width)
    owner, line, left, x, z, front_is_high = (
        values[inside] for values in (owner, line.long(), left.long(), x, z, front_is_high)
    )
    front = left + front_is_high.long()
    back = left + (~front_is_high).long()
    seen, behind = rast[view[owner], line, front], rast[view[owner], line, back]
    is_nearer = (behind[:, 3] == 0) | ((seen[:, 2] < behind[:, 2]) & (z < behind[:, 2]))
    counts = (seen[:, 3] > 0) & (seen[:, 3] != behind[:, 3]) & is_nearer
    d = torch.where(front_is_high, left + 1 - x, x - left)
    pair = (view[owner] * lines + line) * width + left
    best = d.new_full((rast.shape[0] * lines * width,), -1.0)
    best.scatter_reduce_(0, pair[counts], d[counts], "amax")
    counts &= d == best[pair]
    first = torch.full_like(best, len(edge), dtype=torch.int64)
    first.scatter_reduce_(0, pair[counts], owner[counts], "amin")
    counts &= owner == first[pair]
    row, column = (left, line) if in_column else (line, left)
    is_column = torch.full_like(counts, in_column)
    fields = (view[owner], row, column, is_column, front_is_high, edge[owner])
    return tuple(field[counts] for field in fields)
