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

from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.core.topology import Topology, build_topology
from dreamlab.ops.backends import Backend, resolve
from dreamlab.ops.triangles.corners import corner_numbers


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

    Raises:
        InputError: the backend needs float32, and something is not.

    Gradients:
        To `color`, and to x, y, w of `pos` through d. Which edges count is held fixed.
    """
    name = resolve("antialias", backend, color.device)
    if name == "nvdiffrast":
        from dreamlab.ops.triangles.nvdiffrast import antialias as implementation

        return implementation(color, rast, pos, corner_numbers(tri, pos.shape[1]))
    if name == "reference":
        from dreamlab.ops.triangles.antialias_reference import antialias as implementation
    else:
        from dreamlab.ops.triangles.antialias_warp import antialias as implementation
    return implementation(color, rast.detach(), pos, topology or build_topology(tri))
