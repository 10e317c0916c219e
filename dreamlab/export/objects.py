"""What is exported: one object, or several that each have a representation of their own.

Each is cut, repaired, simplified (`surface.py`) and painted (`paint.py`) in its own frame, as a
single object is, and then put in its place. Which triangle is whose is therefore known, and none is
cut where it touches another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import Composed, Representation
from dreamlab.core.regions import ObjectFrame
from dreamlab.ops.mesh.settings import MIN_FACES
from dreamlab.ops.volume.threshold import SilhouetteReference


@dataclass(frozen=True)
class Piece:
    """An object that is exported, and what its mesh has to look like."""

    number: int
    """Of its box in the layout; 0 for a single object."""
    representation: Representation
    reference: SilhouetteReference
    """Rendered views that the outline of its mesh has to fit, in its frame."""
    frame: ObjectFrame | None
    """Where it is in the world; None: its frame is the world."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are; the CPU if there are none."""
        for group in self.representation.parameter_groups().values():
            for parameter in group:
                return parameter.device
        return torch.device("cpu")


def pieces_of(
    representation: Representation,
    reference: SilhouetteReference,
    alone: Sequence[SilhouetteReference],
) -> list[Piece]:
    """Return what is exported: the objects that can be seen, or the one that there is.

    Args:
        representation: of one object or of several.
        reference: views of everything.
        alone: views of each of several objects alone, in its frame.

    Raises:
        InputError: none of several objects can be seen.
    """
    if not isinstance(representation, Composed):
        return [Piece(0, representation, reference, None)]
    columns = zip(representation.objects, alone, representation.frames, strict=True)
    pieces = [Piece(k, *column) for k, column in enumerate(columns)]
    seen = [piece for piece in pieces if bool(piece.reference.mask.any())]
    if not seen:
        raise InputError(
            "there is nothing to export: no object of the layout is opaque.",
            "optimise for more steps, or start again with another seed.",
        )
    return seen


def face_limits(meshes: Sequence[Mesh], pieces: Sequence[Piece], max_faces: int) -> list[int]:
    """Share `max_faces` among objects by their areas in the world."""
    if len(pieces) == 1:
        return [max_faces]
    scales = [1.0 if piece.frame is None else float(piece.frame.scale) for piece in pieces]
    areas = [
        scale**2 * float(mesh.face_areas.sum()) for mesh, scale in zip(meshes, scales, strict=True)
    ]
    return [max(MIN_FACES, int(max_faces * area / sum(areas))) for area in areas]
