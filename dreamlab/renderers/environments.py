"""Surroundings that light an object: small pictures of the whole sphere, made by formula.

    neutral    1 + 0.6 z: white, more from above
    studio     a dim room, a large soft box to the left in front, a weaker one to the right, and a
               narrow one behind
    overcast   (1 + 2 z) / 3 above the horizon, the standard overcast sky; darker ground
    sunset     a low warm sun and its halo, an orange horizon below a blue sky, dark ground

each times the number that makes the mean over the sphere and the three channels 1, so a white matt
ball is about as bright as its albedo whichever one is chosen.

Glossary: (x, y, z) a unit vector in world space: z is up, and the environment's own front is +x;
"left" and "right" as seen by a camera on +x, so +y is to the right. Values are radiance: linear
light, no upper bound.

Source: overcast sky: Moon and Spencer 1942, CIE S 011. The others are our own.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.ops.light.panorama import directions, solid_angles

EnvironmentName = Literal["neutral", "studio", "overcast", "sunset"]
Radiance = Callable[[Tensor], Tensor]
"""Linear RGB [height width 3] of unit vectors [height width 3]."""
BLUR = 0.03
"""Half width of a horizon, in z: two texels of a picture of 64 rows."""


def radiance(name: EnvironmentName, height: int) -> Float[Tensor, "height width 3"]:
    """Return an environment as a picture (see `ops.light.panorama`), double precision, mean 1."""
    picture = ENVIRONMENTS[name](directions(height))
    mean = (picture * solid_angles(height)[..., None]).sum() / (3 * 4 * math.pi)
    return picture / mean


def _neutral(d: Tensor) -> Tensor:
    return (1 + 0.6 * d[..., 2:]).expand_as(d)


def _studio(d: Tensor) -> Tensor:
    room = (0.35 + 0.25 * d[..., 2:]).expand_as(d)
    key = _soft_box(d, azimuth=-45.0, elevation=40.0, width=50.0, height=40.0)
    fill = _soft_box(d, azimuth=70.0, elevation=15.0, width=35.0, height=50.0)
    rim = _soft_box(d, azimuth=170.0, elevation=35.0, width=60.0, height=12.0)
    return room + _rgb(d, 8.0, 7.8, 7.4) * key + _rgb(d, 2.0, 2.1, 2.3) * fill + 5.0 * rim


def _overcast(d: Tensor) -> Tensor:
    z = d[..., 2:]
    sky = _rgb(d, 0.93, 1.0, 1.08) * (1 + 2 * z.clamp(min=0)) / 3
    return _above_horizon(z, sky, _rgb(d, 0.16, 0.15, 0.13))


def _sunset(d: Tensor) -> Tensor:
    z = d[..., 2:]
    sun = d @ _toward(d, azimuth=-55.0, elevation=14.0)[:, None]
    glow = torch.exp(-4 * z.clamp(min=0)) * (0.6 + 0.4 * sun)
    sky = _rgb(d, 0.18, 0.28, 0.55) + _rgb(d, 1.5, 0.75, 0.3) * glow
    sky = sky + _rgb(d, 60.0, 36.0, 16.0) * torch.exp(180 * (sun - 1))  # 6 degrees wide
    sky = sky + _rgb(d, 2.5, 1.3, 0.6) * torch.exp(8 * (sun - 1))
    return _above_horizon(z, sky, _rgb(d, 0.22, 0.15, 0.1) * (1 + 0.5 * sun))


ENVIRONMENTS: dict[str, Radiance] = {
    "neutral": _neutral,
    "studio": _studio,
    "overcast": _overcast,
    "sunset": _sunset,
}
"""Radiance, not normalised, by name."""
assert ENVIRONMENTS.keys() == set(get_args(EnvironmentName))


def _rgb(like: Tensor, red: float, green: float, blue: float) -> Tensor:
    return like.new_tensor([red, green, blue])


def _toward(like: Tensor, *, azimuth: float, elevation: float) -> Tensor:
    """Return the unit vector of two angles, degrees."""
    a, e = math.radians(azimuth), math.radians(elevation)
    return like.new_tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])


def _above_horizon(z: Tensor, sky: Tensor, ground: Tensor) -> Tensor:
    share = _step(z / BLUR)
    return share * sky + (1 - share) * ground


def _soft_box(
    d: Tensor, *, azimuth: float, elevation: float, width: float, height: float
) -> Tensor:
    """Return 1 inside a rectangle of some degrees around a direction, 0 outside, soft between."""
    middle = _toward(d, azimuth=azimuth, elevation=elevation)
    across = _toward(d, azimuth=azimuth + 90, elevation=0.0)
    up = torch.linalg.cross(middle, across)
    forward = d @ middle
    inside = _step(forward / BLUR)
    for axis, size in ((across, width), (up, height)):
        angle = torch.atan2((d @ axis).abs(), forward.clamp(min=1e-6))
        inside = inside * _step((math.radians(size / 2) - angle) / (2 * BLUR))
    return inside[..., None]


def _step(x: Tensor) -> Tensor:
    """Return 0 below -1, 1 above 1 and a smooth cubic between."""
    t = ((x + 1) / 2).clamp(0, 1)
    return t * t * (3 - 2 * t)
