"""The objects of the catalogue as arrays, centred and scaled to the unit ball, not painted yet.

The centre is the middle of the bounding box; the farthest point of the surface has distance 1.
"""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import ConvexHull

from dreamlab.priors.toybox.world.objects.catalogue import OBJECTS
from dreamlab.priors.toybox.world.objects.parts import MAIN
from dreamlab.priors.toybox.world.palette import PAINTS
from dreamlab.priors.toybox.world.primitives import SHAPES, hull_points


@dataclass(frozen=True)
class Solid:
    """An object's parts in units of its radius."""

    shape: Int[ndarray, " parts"]
    """Places in `primitives.SHAPES`."""
    center: Float[ndarray, "parts 3"]
    to_local: Float[ndarray, "parts 3 3"]
    """Object to part rotation."""
    size: Float[ndarray, "parts 3"]
    ratio: Float[ndarray, " parts"]
    reach: Float[ndarray, " parts"]
    """Radius of the ball around `center` that holds the part."""
    is_main: Bool[ndarray, " parts"]
    """Whether the part takes the item's colour and pattern."""
    is_second: Bool[ndarray, " parts"]
    """Whether the part takes the item's second colour."""
    natural: Float[ndarray, "parts 3"]
    """Natural colour of parts that are not main, sRGB."""
    outline: Float[ndarray, "points 3"]
    """Corners of the object's convex hull."""
    seat: Float[ndarray, " 4"] | None
    """Centre and radius of the place where something can stand."""

    @functools.cached_property
    def low(self) -> Float[ndarray, " 3"]:
        return self.outline.min(axis=0)

    @functools.cached_property
    def high(self) -> Float[ndarray, " 3"]:
        return self.outline.max(axis=0)

    @functools.cached_property
    def radius(self) -> float:
        """Greatest horizontal distance from the axis."""
        return float(np.linalg.norm(self.outline[:, :2], axis=-1).max())


@functools.cache
def solid(name: str) -> Solid:
    """Return the object `name` of the catalogue, scaled to the unit ball."""
    kind = OBJECTS[name]
    outline = kind.outline()
    outline = outline[ConvexHull(outline).vertices]
    middle = (outline.min(axis=0) + outline.max(axis=0)) / 2
    scale = 1 / np.linalg.norm(outline - middle, axis=-1).max()
    parts = kind.parts
    reach = [np.linalg.norm(hull_points(p.shape, p.size, p.ratio), axis=-1).max() for p in parts]
    seat = None
    if kind.seat is not None:
        seat = np.append((np.array(kind.seat[:3]) - middle) * scale, kind.seat[3] * scale)
    return Solid(
        shape=np.array([SHAPES.index(p.shape) for p in parts]),
        center=(np.array([p.center for p in parts]) - middle) * scale,
        to_local=np.stack([p.matrix.T for p in parts]),
        size=np.array([p.size for p in parts]) * scale,
        ratio=np.array([p.ratio for p in parts]),
        reach=np.array(reach) * scale * 1.01,
        is_main=np.array([p.paint == MAIN for p in parts]),
        is_second=np.array([p.second for p in parts]),
        natural=np.array([PAINTS.get(p.paint, (0.0, 0.0, 0.0)) for p in parts]),
        outline=(outline - middle) * scale,
        seat=seat,
    )
