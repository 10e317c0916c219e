"""Vehicles, buildings and the robot."""

from math import cos, radians, sin

from dreamlab.priors.toybox.world.objects.parts import ObjectKind, Part, mirrored


def _wheels(xs: tuple[float, ...], y: float, radius: float, width: float) -> tuple[Part, ...]:
    return tuple(
        wheel
        for x in xs
        for wheel in mirrored(
            Part("cylinder", (x, y, radius), (radius, radius, width), "dark", (90, 0, 0))
        )
    )


_CAR = (
    Part("rounded box", (0, 0, 0.44), (1.0, 0.5, 0.24), ratio=0.4),
    Part("rounded box", (-0.18, 0, 0.78), (0.55, 0.43, 0.3), ratio=0.35, second=True),
    Part("box", (0.36, 0, 0.83), (0.03, 0.36, 0.15), "glass", (0, 0, 0)),
    *mirrored(Part("box", (-0.18, 0.42, 0.84), (0.4, 0.025, 0.13), "glass")),
    *mirrored(Part("ellipsoid", (0.98, 0.3, 0.5), (0.06, 0.12, 0.11), "yellow")),
    *mirrored(Part("box", (-0.98, 0.34, 0.52), (0.04, 0.09, 0.06), "red")),
    *_wheels((-0.58, 0.58), 0.47, 0.25, 0.1),
)

_BUS = (
    Part("rounded box", (0, 0, 0.85), (1.1, 0.48, 0.65), ratio=0.25),
    Part("box", (1.09, 0, 1.05), (0.03, 0.4, 0.28), "glass"),
    *mirrored(Part("ellipsoid", (1.09, 0.32, 0.42), (0.05, 0.1, 0.1), "yellow")),
    *(
        window
        for x in (-0.75, -0.25, 0.25, 0.75)
        for window in mirrored(Part("box", (x, 0.47, 1.08), (0.19, 0.03, 0.2), "glass"))
    ),
    *mirrored(Part("box", (0, 0.475, 0.62), (1.0, 0.02, 0.06), "white", second=True)),
    *mirrored(Part("box", (-1.09, 0.34, 0.45), (0.03, 0.08, 0.08), "red")),
    *_wheels((-0.65, 0.65), 0.44, 0.25, 0.1),
)

_TRAIN = (
    Part("box", (-0.1, 0, 0.42), (1.05, 0.42, 0.1), "dark"),
    Part("cylinder", (0.25, 0, 0.85), (0.36, 0.36, 0.68), rotation=(0, 90, 0)),
    Part("cylinder", (0.93, 0, 0.85), (0.28, 0.28, 0.03), "dark", (0, 90, 0)),
    Part("ellipsoid", (0.97, 0, 0.92), (0.08, 0.13, 0.13), "yellow"),
    Part("box", (-0.72, 0, 1.0), (0.4, 0.46, 0.5)),
    Part("box", (-0.72, 0, 1.56), (0.5, 0.54, 0.07), "dark", second=True),
    *mirrored(Part("box", (-0.72, 0.46, 1.18), (0.22, 0.02, 0.2), "glass")),
    Part("cone", (0.6, 0, 1.38), (0.2, 0.2, 0.24), "dark", (180, 0, 0), 0.55, second=True),
    Part("ellipsoid", (0.1, 0, 1.22), (0.17, 0.17, 0.14), "gold", second=True),
    Part("wedge", (1.1, 0, 0.24), (0.2, 0.4, 0.22), "red", second=True),
    *_wheels((-0.75, -0.1, 0.55), 0.42, 0.27, 0.07),
)

_AIRPLANE = (
    Part("capsule", (0, 0, 0), (0.26, 0.26, 1.05), rotation=(0, 90, 0)),
    Part("rounded box", (0.1, 0, -0.02), (0.26, 1.15, 0.06), ratio=0.9, second=True),
    Part("rounded box", (-0.88, 0, 0.06), (0.15, 0.45, 0.05), ratio=0.9, second=True),
    Part("wedge", (-0.84, 0, 0.42), (0.2, 0.05, 0.28), second=True),
    Part("ellipsoid", (0.62, 0, 0.18), (0.26, 0.18, 0.16), "glass"),
    *mirrored(Part("cylinder", (0.22, 0.58, -0.14), (0.13, 0.13, 0.22), "steel", (0, 90, 0))),
)

_BOAT = (
    Part("dome", (0, 0, 0.28), (1.1, 0.46, 0.22), rotation=(180, 0, 0)),
    Part("box", (0, 0, 0.0), (0.3, 0.1, 0.1)),
    Part("cylinder", (0.05, 0, 1.2), (0.05, 0.05, 0.85), "bark"),
    Part("wedge", (0.43, 0, 1.25), (0.38, 0.04, 0.68), "white", second=True),
    Part("wedge", (-0.2, 0, 1.12), (0.28, 0.04, 0.5), "white", (0, 0, 180), second=True),
)


def _fin(angle: int) -> Part:
    x, y = cos(radians(angle)), sin(radians(angle))
    return Part(
        "wedge", (0.5 * x, 0.5 * y, 0.45), (0.28, 0.05, 0.35), "white", (0, 0, angle), second=True
    )


_ROCKET = (
    Part("cone", (0, 0, 0.16), (0.16, 0.16, 0.16), "orange", (180, 0, 0)),
    Part("cylinder", (0, 0, 0.32), (0.24, 0.24, 0.1), "dark"),
    Part("cylinder", (0, 0, 0.95), (0.38, 0.38, 0.6)),
    Part("cone", (0, 0, 1.9), (0.38, 0.38, 0.36), "white", second=True),
    *(_fin(angle) for angle in (45, 135, 225, 315)),
    *(Part("ellipsoid", (x, 0, 1.22), (0.06, 0.17, 0.17), "glass") for x in (0.36, -0.36)),
)

_HOUSE = (
    Part("box", (0, 0, 0.5), (0.75, 0.75, 0.5)),
    Part("prism", (0, 0, 1.33), (0.88, 0.98, 0.36), "dark", second=True),
    Part("box", (0.75, 0, 0.32), (0.03, 0.19, 0.32), "bark"),
    *mirrored(Part("box", (0.75, 0.47, 0.58), (0.03, 0.15, 0.15), "glass")),
    Part("box", (-0.35, 0.45, 1.55), (0.12, 0.12, 0.3), "stone"),
)

_BATTLEMENTS = tuple(
    Part(
        "box",
        (0.58 * cos(radians(a)), 0.58 * sin(radians(a)), 1.86),
        (0.13, 0.15, 0.16),
        rotation=(0, 0, a),
    )
    for a in range(0, 360, 60)
)

_TOWER = (
    Part("cylinder", (0, 0, 0.75), (0.55, 0.55, 0.75)),
    Part("cylinder", (0, 0, 1.6), (0.72, 0.72, 0.16)),
    *_BATTLEMENTS,
    Part("box", (0.52, 0, 0.3), (0.06, 0.2, 0.3), "bark"),
    Part("cylinder", (0.52, 0, 0.6), (0.2, 0.2, 0.06), "bark", (0, 90, 0)),
    Part("box", (0.52, 0, 1.15), (0.05, 0.09, 0.16), "dark"),
)


def _blade(angle: int) -> Part:
    y, z = cos(radians(angle)), sin(radians(angle))
    center = (0.58, 0.5 * y, 1.42 + 0.5 * z)
    return Part("box", center, (0.03, 0.42, 0.13), "white", (angle, 0, 0), second=True)


_WINDMILL = (
    Part("cone", (0, 0, 0.72), (0.6, 0.6, 0.72), ratio=0.62),
    Part("dome", (0, 0, 1.58), (0.42, 0.42, 0.15), "bark"),
    Part("box", (0.52, 0, 0.26), (0.06, 0.16, 0.26), "bark"),
    Part("cylinder", (0.46, 0, 1.42), (0.09, 0.09, 0.18), "dark", (0, 90, 0)),
    *(_blade(angle) for angle in (45, 135, 225, 315)),
)

_ROBOT = (
    Part("rounded box", (0, 0, 1.62), (0.36, 0.42, 0.34), ratio=0.25),
    Part("cylinder", (0, 0, 1.25), (0.14, 0.14, 0.08), "dark"),
    Part("rounded box", (0, 0, 0.82), (0.36, 0.5, 0.4), ratio=0.2),
    Part("box", (0.35, 0, 0.86), (0.03, 0.28, 0.18), "dark"),
    *mirrored(Part("ellipsoid", (0.36, 0.17, 1.68), (0.06, 0.12, 0.12), "yellow")),
    Part("box", (0.36, 0, 1.42), (0.02, 0.2, 0.045), "dark"),
    *mirrored(Part("capsule", (0, 0.6, 0.82), (0.12, 0.12, 0.4), "steel", second=True)),
    *mirrored(Part("cylinder", (0, 0.24, 0.26), (0.14, 0.14, 0.2), "steel", second=True)),
    *mirrored(Part("rounded box", (0.06, 0.24, 0.08), (0.24, 0.2, 0.09), ratio=0.5)),
    Part("cylinder", (0, 0, 2.05), (0.035, 0.035, 0.14), "dark"),
    Part("ellipsoid", (0, 0, 2.22), (0.09, 0.09, 0.09), "red"),
)

TOWN: tuple[ObjectKind, ...] = (
    ObjectKind("car", _CAR, has_front=True),
    ObjectKind("bus", _BUS, plural="buses", has_front=True, seat=(0, 0, 1.5, 0.42)),
    ObjectKind("train", _TRAIN, has_front=True),
    ObjectKind("airplane", _AIRPLANE, aliases=("plane",), has_front=True),
    ObjectKind("boat", _BOAT, aliases=("sailboat",)),
    ObjectKind("rocket", _ROCKET),
    ObjectKind("house", _HOUSE, has_front=True),
    ObjectKind("castle tower", _TOWER, aliases=("tower",), has_front=True, natural="grey"),
    ObjectKind("windmill", _WINDMILL, has_front=True),
    ObjectKind("robot", _ROBOT, has_front=True),
)
