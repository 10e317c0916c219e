"""Cutting a mesh of several objects into pieces, wherever it has them.

The boxes that the words of a prompt say can be parted by planes, one after the other:

    parting = number of an object | plane (axis, parting below, parting above)

so the objects of "a on top of b next to c" are parted by an upright plane, and what lies on one
side of it by a level one. Where the planes lie in a mesh is not known, nor whether a row of objects
runs along x or along y: `cut` tries all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from dreamlab.core.layout import Box, Layout
from dreamlab.core.mesh import Mesh

PLACES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Where a plane may lie between the lowest and the highest point of what it parts."""
AXES = ((0, 1, 2), (1, 0, 2))
"""The axes of the mesh that those of the boxes may stand for."""


@dataclass(frozen=True)
class Plane:
    """What lies on the two sides of a plane across an axis."""

    axis: int
    below: "Parting"
    above: "Parting"


Parting = int | Plane
OVERLAP = 0.002
"""World units by which boxes that touch may overlap: layouts have rounded numbers."""
Faces = Bool[ndarray, " faces"]
"""Which triangles of a mesh belong to something."""


@dataclass(frozen=True)
class Cuts:
    """All that a mesh can be cut into."""

    pieces: list[Mesh]
    """Each only once; two cuts may have a piece in common."""
    cuts: list[tuple[int, ...]]
    """For each cut the numbers of its pieces, in the order of the boxes."""


def cut(mesh: Mesh, layout: Layout) -> Cuts:
    """Return the cuts of a mesh into as many pieces as a layout has boxes; triangles stay whole.

    Args:
        mesh: with at least one triangle.
        layout: says in what order planes part the objects, and across which axes.

    Raises:
        ValueError: no planes part the boxes.
    """
    parting, centers = parting_of(layout), mesh.triangles.mean(axis=1)
    number_of: dict[bytes, int] = {}
    pieces: list[Mesh] = []
    cuts: list[tuple[int, ...]] = []
    for axes in AXES:
        for parted in _part(np.ones(len(centers), bool), parting, centers[:, axes]):
            for faces in parted.values():
                if number_of.setdefault(faces.tobytes(), len(pieces)) == len(pieces):
                    pieces.append(replace(mesh, faces=mesh.faces[faces]))
            cuts.append(tuple(number_of[parted[box].tobytes()] for box in range(len(layout))))
    return Cuts(pieces, cuts)


def parting_of(layout: Layout) -> Parting:
    """Return planes that part the boxes, upright ones before level ones.

    Raises:
        ValueError: there are none.
    """
    return _parting(list(enumerate(layout.boxes)))


def _parting(boxes: Sequence[tuple[int, Box]]) -> Parting:
    if len(boxes) == 1:
        return boxes[0][0]
    for axis in (1, 0, 2):
        rising = sorted(boxes, key=lambda box: box[1].center[axis])
        ends = [_ends(box, axis) for _, box in rising]
        for count in range(1, len(rising)):
            below = max(high for _, high in ends[:count])
            if below <= min(low for low, _ in ends[count:]) + OVERLAP:
                return Plane(axis, _parting(rising[:count]), _parting(rising[count:]))
    prompts = ", ".join(repr(box.prompt) for _, box in boxes)
    raise ValueError(f"no plane parts the boxes of {prompts}")


def _ends(box: Box, axis: int) -> tuple[float, float]:
    values = [corner[axis] for corner in box.corners()]
    return min(values), max(values)


def _part(
    faces: Faces, parting: Parting, centers: Float[ndarray, "faces 3"]
) -> Iterator[dict[int, Faces]]:
    """Yield the triangles of each object, for all places of the planes."""
    if isinstance(parting, int):
        yield {parting: faces}
        return
    along = centers[:, parting.axis]
    low, high = along[faces].min(), along[faces].max()
    for place in PLACES:
        is_below = along < low + place * (high - low)
        below, above = faces & is_below, faces & ~is_below
        if not below.any() or not above.any():
            continue
        for first in _part(below, parting.below, centers):
            for second in _part(above, parting.above, centers):
                yield first | second
