"""An unwrap that always works: project pieces of the surface along the coordinate axes.

Each triangle is projected along the axis that its normal faces most. Connected triangles of one
axis form a chart; since all of them face the same way, a chart can overlap itself only where the
surface passes over itself, as a spiral does. Such charts are found by rasterising the atlas and are
cut at half their depth until none is left. Rectangles around the charts are packed on shelves.

Glossary: *side* 0..5 is +x, -x, +y, -y, +z, -z; *depth* is the coordinate along a chart's axis;
*density* is texels per world unit, the same for all charts.

Source: box mapping as in any modelling program; shelf packing, Jylänki 2010, "A thousand ways to
pack the bin", section 2 (next fit, decreasing height).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.ops.mesh.clean import face_adjacency, label_components
from dreamlab.ops.mesh.texels import rasterize

RELABEL_ROUNDS = 4
"""Majority votes that straighten the borders between sides."""
MIN_FACING = 0.35
"""A vote may move a triangle to a side only if normal . axis is at least this."""
MAX_CUTS = 24
"""Rounds of cutting; after them, what still overlaps is cut into single triangles."""
DENSITY_ROUNDS = 24
"""Bisections of the density."""


@dataclass(frozen=True)
class Unwrapped:
    """A mesh cut along the seams of its texture."""

    source: Int[ndarray, " vertices"]
    """For every vertex, the vertex of the uncut mesh."""
    faces: Int[ndarray, "faces 3"]
    uv: Float[ndarray, "vertices 2"]
    """In [0, 1]."""


def unwrap_box(mesh: Mesh, size: int, padding: int) -> Unwrapped:
    """Unwrap by axis projection.

    Args:
        mesh: triangles of positive area.
        size: side of the texture, texels.
        padding: texels kept free around every chart.

    Raises:
        InputError: the charts do not fit the texture at any density.
    """
    side = _choose_sides(mesh)
    adjacency = face_adjacency(mesh.faces)
    depth = np.take_along_axis(mesh.triangles.mean(axis=1), side[:, None] // 2, axis=1)[:, 0]
    group, suspect = side, np.ones(len(side), dtype=bool)
    for round_ in range(MAX_CUTS + 1):
        chart = label_components(len(side), adjacency[np.equal(*group[adjacency].T)])
        unwrapped = _lay_out(mesh, side, chart, size, padding)
        bad = _overlapping_charts(unwrapped, chart, suspect, size)
        if len(bad) == 0:
            break
        suspect = np.isin(chart, bad)
        if round_ == MAX_CUTS - 1:
            single = chart.max() + 1 + np.arange(len(chart))
            group = np.where(suspect, single, chart)
        else:
            group = 2 * chart + (suspect & _is_deep(chart, depth))
    return unwrapped


def _overlapping_charts(
    unwrapped: Unwrapped, chart: ndarray, suspect: ndarray, size: int
) -> Int[ndarray, " charts"]:
    """Return the charts among the suspects that overlap themselves; no two charts ever meet."""
    index = np.nonzero(suspect)[0]
    texels = rasterize(unwrapped.uv, unwrapped.faces[index], size)
    twice = np.isin(texels.index, texels.overlapping)
    return np.unique(chart[index[texels.face_index[twice]]])


def _choose_sides(mesh: Mesh) -> Int[ndarray, " faces"]:
    """Assign every triangle to the side it faces, then let neighbours vote."""
    a, b, c = np.moveaxis(mesh.triangles.astype(np.float64), 1, 0)
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    facing = np.stack([normal, -normal], axis=2).reshape(-1, 6)
    side = facing.argmax(axis=1)
    pairs = face_adjacency(mesh.faces)
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    for _ in range(RELABEL_ROUNDS):
        votes = np.bincount(pairs[:, 0] * 6 + side[pairs[:, 1]], minlength=facing.size)
        votes = votes.reshape(-1, 6) + facing
        side = np.where(facing >= MIN_FACING, votes, -1.0).argmax(axis=1)
    return side


def _is_deep(chart: ndarray, depth: ndarray) -> Bool[ndarray, " faces"]:
    """Return which triangles lie above the middle of their chart's depth."""
    num_charts = int(chart.max()) + 1
    low, high = np.full(num_charts, np.inf), np.full(num_charts, -np.inf)
    np.minimum.at(low, chart, depth)
    np.maximum.at(high, chart, depth)
    return depth > (low + high)[chart] / 2


def _lay_out(mesh: Mesh, side: ndarray, chart: ndarray, size: int, padding: int) -> Unwrapped:
    """Project all charts and pack them into the unit square."""
    corner = mesh.faces.reshape(-1).astype(np.int64)
    corner_chart = np.repeat(chart, 3).astype(np.int64)
    _, first, inverse = np.unique(
        corner_chart * len(mesh.vertices) + corner, return_index=True, return_inverse=True
    )
    source, vertex_chart = corner[first], corner_chart[first]
    plane = _project(mesh.vertices[source].astype(np.float64), np.repeat(side, 3)[first])
    num_charts = int(chart.max()) + 1
    low, high = np.full((num_charts, 2), np.inf), np.full((num_charts, 2), -np.inf)
    np.minimum.at(low, vertex_chart, plane)
    np.maximum.at(high, vertex_chart, plane)
    density, place = _pack(high - low, size, padding)
    texel = (plane - low[vertex_chart]) * density + place[vertex_chart] + padding
    return Unwrapped(source, inverse.reshape(-1, 3), np.clip(texel / size, 0, 1))


def _project(points: ndarray, side: ndarray) -> ndarray:
    """Drop the coordinate of each point's side; counter-clockwise stays so, seen from outside."""
    axis, negative = side // 2, side % 2 == 1
    u = np.take_along_axis(points, ((axis + 1) % 3)[:, None], axis=1)[:, 0]
    v = np.take_along_axis(points, ((axis + 2) % 3)[:, None], axis=1)[:, 0]
    return np.stack([np.where(negative, -u, u), v], axis=1)


def _pack(extent: ndarray, size: int, padding: int) -> tuple[float, Int[ndarray, "charts 2"]]:
    """Find the largest density at which all rectangles fit, and their lower left corners."""
    low, high = 0.0, size / max(float(extent.max()), 1e-12)
    place = _shelves(np.zeros_like(extent), size, padding)
    if place is None:
        raise InputError(
            f"{len(extent)} charts do not fit a texture of {size} texels.",
            "raise texture_size or lower max_faces.",
        )
    for _ in range(DENSITY_ROUNDS):
        density = (low + high) / 2
        attempt = _shelves(extent * density, size, padding)
        if attempt is None:
            high = density
        else:
            low, place = density, attempt
    return low, place


def _shelves(extent: ndarray, size: int, padding: int) -> Int[ndarray, "charts 2"] | None:
    """Place rectangles in rows of decreasing height; None if they do not fit the square."""
    boxes = np.ceil(extent).astype(np.int64) + 2 * padding
    if boxes.max() > size:
        return None
    place = np.zeros_like(boxes)
    x = y = shelf = 0
    for chart in np.argsort(-boxes[:, 1], kind="stable").tolist():
        width, height = boxes[chart].tolist()
        if x + width > size:
            x, y, shelf = 0, y + shelf, 0
        shelf = max(shelf, height)
        if y + shelf > size:
            return None
        place[chart] = x, y
        x += width
    return place
