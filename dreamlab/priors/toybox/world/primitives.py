"""The primitive shapes of the toybox: signed distances in Warp, and the points that bound them.

A shape is given by the half extents `size` of its axis-aligned bounding box, centred at the origin,
z up. Round shapes (about z) with different x and y half extents are elliptic. One number `ratio`
tells the rest:

    ellipsoid, capsule, torus, box, pyramid, wedge, prism, dome, hexagon: ratio is not used
    rounded box: radius of the edges / smallest half extent
    cone: radius of the top / radius of the bottom (0 is a pointed cone, more a truncated one)
    cup: inner radius / outer radius (a cylinder with a hollow, open at the top)

The torus lies flat: size.x is its outer radius and size.z the radius of its tube. The wedge is a
ramp that rises towards -x; the prism is a gable roof with its ridge along x; the dome is half an
ellipsoid, flat side down; the hexagon has two of its edges on the planes y = +-size.y, so size.y is
sqrt(3)/2 size.x.

Every function is negative inside, zero on the surface, positive outside and has Lipschitz constant
at most 1, so it never exceeds the true distance and sphere tracing never steps through a surface.
It is a lower bound of the distance rather than the distance: sharp convex shapes are the maximum of
their half spaces, and elliptic shapes are evaluated after a contraction that maps them to round
ones (a map of Lipschitz constant 1 that keeps the sign).

Source: sphere tracing, J. C. Hart, "Sphere tracing", The Visual Computer 12, 1996.
"""

from typing import no_type_check

import numpy as np
import warp as wp
from jaxtyping import Float
from numpy import ndarray

wp.set_module_options({"enable_backward": False})

SHAPES: tuple[str, ...] = (
    "ellipsoid",
    "box",
    "rounded box",
    "cylinder",
    "capsule",
    "cone",
    "torus",
    "pyramid",
    "wedge",
    "prism",
    "dome",
    "hexagon",
    "cup",
)
"""Shape names; the index is the code the kernels use."""


@wp.func
@no_type_check
def contract_xy(p: wp.vec3, size: wp.vec3) -> wp.vec3:
    """Map an elliptic shape about z to a round one of radius min(size.x, size.y)."""
    m = wp.min(size[0], size[1])
    return wp.vec3(p[0] * m / size[0], p[1] * m / size[1], p[2])


@wp.func
@no_type_check
def ellipsoid(p: wp.vec3, size: wp.vec3) -> float:
    m = wp.min(size)
    return m * wp.length(wp.cw_div(p, size)) - m


@wp.func
@no_type_check
def slab(p: wp.vec3, size: wp.vec3) -> float:
    """Distance of a box from its faces' planes."""
    return wp.max(wp.max(wp.abs(p[0]) - size[0], wp.abs(p[1]) - size[1]), wp.abs(p[2]) - size[2])


@wp.func
@no_type_check
def rounded_box(p: wp.vec3, size: wp.vec3, ratio: float) -> float:
    radius = ratio * wp.min(size)
    q = wp.vec3(
        wp.abs(p[0]) - size[0] + radius,
        wp.abs(p[1]) - size[1] + radius,
        wp.abs(p[2]) - size[2] + radius,
    )
    outside = wp.vec3(wp.max(q[0], 0.0), wp.max(q[1], 0.0), wp.max(q[2], 0.0))
    return wp.length(outside) + wp.min(wp.max(q), 0.0) - radius


@wp.func
@no_type_check
def cylinder(p: wp.vec3, size: wp.vec3) -> float:
    q = contract_xy(p, size)
    radial = wp.sqrt(q[0] * q[0] + q[1] * q[1]) - wp.min(size[0], size[1])
    return wp.max(radial, wp.abs(p[2]) - size[2])


@wp.func
@no_type_check
def capsule(p: wp.vec3, size: wp.vec3) -> float:
    q = contract_xy(p, size)
    m = wp.min(size[0], size[1])
    z = wp.max(wp.abs(q[2]) - wp.max(size[2] - m, 0.0), 0.0)
    return wp.sqrt(q[0] * q[0] + q[1] * q[1] + z * z) - m


@wp.func
@no_type_check
def cone(p: wp.vec3, size: wp.vec3, ratio: float) -> float:
    q = contract_xy(p, size)
    m = wp.min(size[0], size[1])
    slope = m * (1.0 - ratio) / (2.0 * size[2])
    radius = m - slope * (p[2] + size[2])
    side = (wp.sqrt(q[0] * q[0] + q[1] * q[1]) - radius) / wp.sqrt(1.0 + slope * slope)
    return wp.max(side, wp.abs(p[2]) - size[2])


@wp.func
@no_type_check
def torus(p: wp.vec3, size: wp.vec3) -> float:
    q = contract_xy(p, size)
    ring = wp.min(size[0], size[1]) - size[2]
    radial = wp.sqrt(q[0] * q[0] + q[1] * q[1]) - ring
    return wp.sqrt(radial * radial + q[2] * q[2]) - size[2]


@wp.func
@no_type_check
def roof(across: float, z: float, half_width: float, half_height: float) -> float:
    """Distance of a line that falls from (0, half_height) to (half_width, -half_height)."""
    height = 2.0 * half_height
    normal = wp.sqrt(height * height + half_width * half_width)
    return (wp.abs(across) * height + (z - half_height) * half_width) / normal


@wp.func
@no_type_check
def pyramid(p: wp.vec3, size: wp.vec3) -> float:
    sides = wp.max(roof(p[0], p[2], size[0], size[2]), roof(p[1], p[2], size[1], size[2]))
    return wp.max(sides, -p[2] - size[2])


@wp.func
@no_type_check
def wedge(p: wp.vec3, size: wp.vec3) -> float:
    normal = wp.sqrt(size[0] * size[0] + size[2] * size[2])
    return wp.max((p[0] * size[2] + p[2] * size[0]) / normal, slab(p, size))


@wp.func
@no_type_check
def prism(p: wp.vec3, size: wp.vec3) -> float:
    return wp.max(roof(p[1], p[2], size[1], size[2]), slab(p, size))


@wp.func
@no_type_check
def dome(p: wp.vec3, size: wp.vec3) -> float:
    base = p[2] + size[2]
    whole = ellipsoid(wp.vec3(p[0], p[1], base), wp.vec3(size[0], size[1], 2.0 * size[2]))
    return wp.max(whole, -base)


@wp.func
@no_type_check
def hexagon(p: wp.vec3, size: wp.vec3) -> float:
    apothem = size[0] * 0.8660254
    slanted = wp.abs(p[0]) * 0.8660254 + wp.abs(p[1]) * 0.5 - apothem
    return wp.max(wp.max(slanted, wp.abs(p[1]) - apothem), wp.abs(p[2]) - size[2])


@wp.func
@no_type_check
def cup(p: wp.vec3, size: wp.vec3, ratio: float) -> float:
    wall = (1.0 - ratio) * wp.min(size[0], size[1])
    inner = wp.vec3(size[0] * ratio, size[1] * ratio, size[2])
    return wp.max(cylinder(p, size), -cylinder(p - wp.vec3(0.0, 0.0, wall), inner))


@wp.func
@no_type_check
def shape_distance(shape: int, p: wp.vec3, size: wp.vec3, ratio: float) -> float:
    """Signed distance bound of shape number `shape` at `p`, in the shape's own frame."""
    if shape == 0:
        return ellipsoid(p, size)
    if shape == 1:
        return slab(p, size)
    if shape == 2:
        return rounded_box(p, size, ratio)
    if shape == 3:
        return cylinder(p, size)
    if shape == 4:
        return capsule(p, size)
    if shape == 5:
        return cone(p, size, ratio)
    if shape == 6:
        return torus(p, size)
    if shape == 7:
        return pyramid(p, size)
    if shape == 8:
        return wedge(p, size)
    if shape == 9:
        return prism(p, size)
    if shape == 10:
        return dome(p, size)
    if shape == 11:
        return hexagon(p, size)
    return cup(p, size, ratio)


def hull_points(
    shape: str, size: tuple[float | int, ...], ratio: float | int
) -> Float[ndarray, "points 3"]:
    """Return points of the shape that bound it in every direction (to about 1 %)."""
    if shape in ("box", "pyramid", "wedge", "prism"):
        points = _CORNERS[shape]
    elif shape == "hexagon":
        angle = np.deg2rad(np.arange(6) * 60)
        ring = np.stack([np.cos(angle), np.sin(angle) / np.sqrt(0.75)], axis=-1)
        points = np.concatenate([np.insert(ring, 2, z, axis=1) for z in (-1.0, 1.0)])
    elif shape == "rounded box":
        radius = ratio * min(size)
        inner = np.array(size) - radius
        corners = _CORNERS["box"][:, None] * inner
        return (corners + radius * _revolve(_ARC)[None]).reshape(-1, 3)
    else:
        points = _revolve(_profile(shape, size, ratio))
    return points * np.array(size)


def _profile(shape: str, size: tuple[float | int, ...], ratio: float | int) -> ndarray:
    """Outline (radius, z) of a shape of revolution, in units of its half extents."""
    if shape == "ellipsoid":
        return _ARC
    if shape == "dome":
        upper = _ARC[_ARC[:, 1] >= 0]
        return upper * [1, 2] - [0, 1]
    if shape == "cone":
        return np.array([[1.0, -1.0], [ratio, 1.0]])
    if shape in ("cylinder", "cup"):
        return np.array([[1.0, -1.0], [1.0, 1.0]])
    # capsule and torus: half circles at the ends of the height or of the radius
    m = min(size[:2])
    if shape == "capsule":
        cap = m / size[2]
        return np.stack([_ARC[:, 0], cap * _ARC[:, 1] + (1 - cap) * np.sign(_ARC[:, 1])], axis=-1)
    tube = size[2] / m
    return np.stack([1 - tube + tube * _ARC[:, 0], _ARC[:, 1]], axis=-1)


def _revolve(profile: ndarray, segments: int = 24) -> ndarray:
    angle = np.arange(segments) * (2 * np.pi / segments)
    radius, z = profile[:, None, 0], profile[:, None, 1]
    rings = [radius * np.cos(angle), radius * np.sin(angle), np.broadcast_to(z, (len(z), segments))]
    return np.stack(rings, axis=-1).reshape(-1, 3)


_LATITUDE = np.deg2rad(np.linspace(-90, 90, 13))
_ARC = np.stack([np.cos(_LATITUDE), np.sin(_LATITUDE)], axis=-1)
_BOX = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_BASE = _BOX[_BOX[:, 2] < 0]
_CORNERS = {
    "box": _BOX,
    "pyramid": np.concatenate([_BASE, [[0.0, 0.0, 1.0]]]),
    "wedge": np.concatenate([_BASE, [[-1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]]]),
    "prism": np.concatenate([_BASE, [[-1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]]),
}
