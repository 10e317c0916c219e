"""How an object is written down: a list of painted primitives.

An object's own frame: right-handed, z up, facing +x, any unit and any origin (scenes centre and
scale it). A part's paint is `MAIN`, the item's colour and pattern, or the name of a natural colour
of `palette.PAINTS`; a part with `second=True` takes the item's second colour when there is one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from dreamlab.priors.toybox.world.palette import PAINTS
from dreamlab.priors.toybox.world.primitives import SHAPES, hull_points

MAIN = "main"

Triple = tuple[float | int, float | int, float | int]


@dataclass(frozen=True)
class Part:
    """One primitive of an object."""

    shape: str
    """A name of `primitives.SHAPES`."""
    center: Triple
    size: Triple
    """Half extents along the part's own axes."""
    paint: str = MAIN
    """`MAIN` or a name of `palette.PAINTS`."""
    rotation: Triple = (0.0, 0.0, 0.0)
    """Degrees about the fixed axes x, then y, then z."""
    ratio: float | int = 0.0
    """See `primitives`."""
    second: bool = False
    """Whether the item's second colour, if it has one, replaces `paint`."""

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"shape must be one of {SHAPES}, got {self.shape!r}")
        if self.paint != MAIN and self.paint not in PAINTS:
            raise ValueError(f"paint must be 'main' or one of {tuple(PAINTS)}, got {self.paint!r}")
        if min(self.size) <= 0:
            raise ValueError(f"size must be positive, got {self.size}")

    @property
    def matrix(self) -> Float[ndarray, "3 3"]:
        """Rotation from the part's frame to the object's."""
        rx, ry, rz = np.deg2rad(self.rotation)
        (cx, cy, cz), (sx, sy, sz) = np.cos([rx, ry, rz]), np.sin([rx, ry, rz])
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        return about_z @ about_y @ about_x

    def outline(self) -> Float[ndarray, "points 3"]:
        """Points that bound the part, in the object's frame."""
        return hull_points(self.shape, self.size, self.ratio) @ self.matrix.T + self.center


@dataclass(frozen=True)
class ObjectKind:
    """An entry of the catalogue."""

    name: str
    """The noun of captions, singular."""
    parts: tuple[Part, ...]
    plural: str = ""
    """Empty for the name with an s."""
    aliases: tuple[str, ...] = ()
    """Other nouns for the same object."""
    has_front: bool = False
    """Whether a face, door, screen or windscreen clearly faces +x."""
    natural: str | None = None
    """The colour meant when a caption names none; None where a caption must name one."""
    seat: tuple[float | int, float | int, float | int, float | int] | None = None
    """Where something can stand on it: (x, y, z, radius) in the object's frame; None if nowhere."""

    @property
    def plural_name(self) -> str:
        return self.plural or self.name + "s"

    @property
    def is_two_colored(self) -> bool:
        """Whether a caption can name a second colour without a pattern."""
        return any(part.second for part in self.parts)

    def outline(self) -> Float[ndarray, "points 3"]:
        """Points that bound the object, in its own frame."""
        return np.concatenate([part.outline() for part in self.parts])


def mirrored(part: Part) -> tuple[Part, Part]:
    """Return the part and its mirror image in the plane y = 0 (shapes are symmetric in y)."""
    x, y, z = part.center
    rx, ry, rz = part.rotation
    other = Part(
        part.shape, (x, -y, z), part.size, part.paint, (-rx, ry, -rz), part.ratio, part.second
    )
    return part, other
