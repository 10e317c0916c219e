"""Silhouettes seen smoothly: pixels that an outline cuts are blended, with a gradient to it.

Which triangle a pixel centre sees does not change with small moves of a vertex, so `rasterize` and
`interpolate` tell nothing about where an object ends. Here every silhouette edge that passes
between the centres of two neighbours, a front pixel f that sees the nearer surface and a back pixel
k, blends one of them by how far from f's centre it passes. With d in [0, 1] that distance,

    c_k <- c_k + (d - 1/2) (c_f - c_k)   if d > 1/2,
    c_f <- c_f + (1/2 - d) (c_k - c_f)   otherwise,

so the area that the surface covers is counted once, and dc/dd = c_f - c_k in both cases. With s the
edge's parameter where it crosses the line of centres, d moves with both ends a and b of the edge:
for neighbours in a row, at height y,

    s = (y - a_y) / (b_y - a_y),   d = +-(a_x + s (b_x - a_x) - x_f).

Glossary: an edge is a *silhouette* edge if it has one triangle, or two whose third corners are seen
on the same side of it. It acts on neighbours in a row if it is seen rather steep, and in a column
if rather flat: otherwise an oblique edge would count twice. Of several edges between two centres
the outermost counts. Edges are found by walking along each edge, not by looking at the triangles
that the two pixels see; so triangles that are too thin to be seen by any pixel count too.

Conventions: pixel units, centres at integers, rows growing with clip-space y as in `rasterize`.

Sources: the blend is that of Laine et al. 2020, "Modular Primitives for High-Performance
Differentiable Rendering", section 3.6; the search along edges is ours.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dreamlab.core.topology import Topology, build_topology
from dreamlab.ops.backends import Backend, resolve


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
    tri: Int[Tensor, "triangles 3"],
    topology: Topology | None = None,
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "batch height width channels"]:
    """Blend pixels along silhouettes; see the module docstring.

    Args:
        color: any channels; what is not seen must already hold its background.
        rast: of `rasterize` with `pos` and `tri`.
        pos: clip space.
        tri: triangles.
        topology: of `tri`, to save the time of `build_topology`.
        backend: `warp` (float32), `reference`, or `nvdiffrast` (float32, CUDA; by its own rules).

    Gradients:
        To `color`, and to x, y, w of `pos` through d. Which edges count is held fixed.
    """
    name = resolve("antialias", backend, color.device)
    if name == "nvdiffrast":
        from dreamlab.ops.triangles.nvdiffrast import antialias as implementation

        return implementation(color, rast, pos, tri.int().contiguous())
    topology = topology or build_topology(tri)
    if name == "reference":
        from dreamlab.ops.triangles.silhouettes_reference import find_crossings
    else:
        from dreamlab.ops.triangles.silhouettes_warp import find_crossings
    found = find_crossings(rast.detach(), to_pixels(pos.detach(), rast.shape), topology)
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
