"""Which triangles of an exported surface are which object of a layout.

A triangle with the centroid x belongs to the box that x belongs to,

    k(x) = argmax_k m_k(x)

with the shares m_k of `core.regions`, by which every renderer draws its masks. A connected piece of
the surface of which one box has nearly all is given to it undivided: what only leans over into the
neighbour's region stays in one piece, and closed. So a surface is cut only where objects have grown
together, along edges of its triangles; there the parts are open.

Where each object has a representation of its own (`objects.py`), it is known whose a triangle is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from dreamlab.core.layout import Layout
from dreamlab.core.mesh import Mesh
from dreamlab.core.regions import Regions
from dreamlab.core.run_folder import slug
from dreamlab.ops.mesh.clean import face_adjacency, is_watertight, label_components

UNDIVIDED = 0.9
"""Share of a connected piece's area with which a box has all of it."""


@dataclass(frozen=True)
class Part:
    """Some triangles of a mesh that are an object of their own in files."""

    name: str
    """Lower-case letters, digits and dashes; no other part has it."""
    faces: Int[ndarray, " faces"]
    """Their numbers, rising."""


@dataclass(frozen=True)
class ObjectReport:
    """What an object of a layout has become."""

    faces: int
    watertight: bool
    """Whether it is closed, as it is where no neighbour touches it."""


def whole(mesh: Mesh, name: str) -> list[Part]:
    """Return a mesh as the one part that it is."""
    return [Part(name, np.arange(len(mesh.faces)))]


def parts_of(
    mesh: Mesh, layout: Layout | None, name: str, owner: Int[ndarray, " faces"] | None = None
) -> list[Part]:
    """Return the part of each object, in the order of the boxes; a part may have no triangles.

    Args:
        mesh: world coordinates; may be cut along seams, vertices in one place count as one.
        layout: that the mesh was made with; with one box or without a layout there is one part.
        name: of that.
        owner: number of the object of each triangle, where it is known.
    """
    if layout is None or len(layout) == 1:
        return whole(mesh, name)
    owner = _owners(mesh, layout) if owner is None else owner
    names = object_names(layout)
    return [Part(name, np.nonzero(owner == index)[0]) for index, name in enumerate(names)]


def object_names(layout: Layout) -> list[str]:
    """Return a name for each object: the slug of its prompt, with a number from the second on."""
    names: list[str] = []
    for box in layout.boxes:
        base = name = slug(box.prompt)
        number = 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


def describe(mesh: Mesh, parts: Sequence[Part]) -> dict[str, ObjectReport]:
    """Return what parts of a mesh are like, by name; seams of the texture are no rims."""
    welded = _welded(mesh)
    return {
        part.name: ObjectReport(
            len(part.faces), is_watertight(Mesh(mesh.vertices, welded[part.faces]))
        )
        for part in parts
    }


def _owners(mesh: Mesh, layout: Layout) -> Int[ndarray, " faces"]:
    """Return the number of the box that each triangle belongs to."""
    centroids = torch.from_numpy(mesh.triangles.astype(np.float32).mean(axis=1))
    owner = Regions.of(layout).labels(centroids).argmax(dim=-1).numpy()
    piece = label_components(len(mesh.faces), face_adjacency(_welded(mesh)))
    area = np.zeros((int(piece.max(initial=-1)) + 1, len(layout)))
    np.add.at(area, (piece, owner), mesh.face_areas)
    main = area.argmax(axis=1)
    is_undivided = area.max(axis=1) >= UNDIVIDED * area.sum(axis=1)
    return np.where(is_undivided[piece], main[piece], owner)


def _welded(mesh: Mesh) -> Int[ndarray, "faces 3"]:
    """Return the triangles with vertices in the same place numbered alike."""
    _, group = np.unique(mesh.vertices, axis=0, return_inverse=True)
    return group.reshape(-1)[mesh.faces]
