"""Plants and food."""

from math import cos, radians, sin

from dreamlab.priors.toybox.world.objects.parts import ObjectKind, Part, mirrored

_MUSHROOM = (
    Part("cone", (0, 0, 0.42), (0.32, 0.32, 0.42), "cream", ratio=0.75, second=True),
    Part("dome", (0, 0, 1.04), (0.82, 0.82, 0.32)),
)

_TREE = (
    Part("cylinder", (0, 0, 0.45), (0.16, 0.16, 0.45), "bark", second=True),
    Part("ellipsoid", (0, 0, 1.45), (0.62, 0.62, 0.6)),
    Part("ellipsoid", (0.1, 0.45, 1.15), (0.42, 0.42, 0.38)),
    Part("ellipsoid", (-0.1, -0.45, 1.2), (0.42, 0.42, 0.38)),
    Part("ellipsoid", (0.42, -0.12, 1.1), (0.38, 0.38, 0.34)),
    Part("ellipsoid", (-0.42, 0.12, 1.15), (0.38, 0.38, 0.34)),
)

_PINE = (
    Part("cylinder", (0, 0, 0.2), (0.15, 0.15, 0.2), "bark", second=True),
    Part("cone", (0, 0, 0.7), (0.78, 0.78, 0.36)),
    Part("cone", (0, 0, 1.2), (0.62, 0.62, 0.36)),
    Part("cone", (0, 0, 1.72), (0.44, 0.44, 0.4)),
)

_CACTUS = (
    Part("cone", (0, 0, 0.2), (0.42, 0.42, 0.22), "wood", (180, 0, 0), 0.72, second=True),
    Part("capsule", (0, 0, 1.1), (0.27, 0.27, 0.85)),
    Part("capsule", (0, 0.42, 0.98), (0.15, 0.15, 0.32), rotation=(90, 0, 0)),
    Part("capsule", (0, 0.62, 1.3), (0.15, 0.15, 0.46)),
    Part("capsule", (0, -0.4, 1.2), (0.14, 0.14, 0.3), rotation=(90, 0, 0)),
    Part("capsule", (0, -0.58, 1.48), (0.14, 0.14, 0.4)),
)


def _petal(angle: int) -> Part:
    y, z = cos(radians(angle)), sin(radians(angle))
    center = (0.12, 0.47 * y, 1.55 + 0.47 * z)
    return Part("ellipsoid", center, (0.12, 0.32, 0.22), rotation=(angle, 0, 0))


_FLOWER = (
    Part("cylinder", (0, 0, 0.6), (0.07, 0.07, 0.65), "leaf"),
    *mirrored(Part("ellipsoid", (0.05, 0.3, 0.42), (0.1, 0.34, 0.12), "leaf", (35, 0, 0))),
    Part("ellipsoid", (0.02, 0, 1.55), (0.1, 0.3, 0.3), "leaf"),
    *(_petal(angle) for angle in range(0, 360, 60)),
    Part("ellipsoid", (0.18, 0, 1.55), (0.16, 0.27, 0.27), "bark", second=True),
)

_APPLE = (
    Part("ellipsoid", (0, 0, 0.72), (0.74, 0.74, 0.64)),
    Part("ellipsoid", (0, 0, 0.42), (0.56, 0.56, 0.45)),
    Part("cylinder", (0, 0.04, 1.45), (0.06, 0.06, 0.22), "bark", (-12, 0, 0)),
    Part("ellipsoid", (0.02, 0.3, 1.5), (0.13, 0.3, 0.07), "leaf", (20, 0, 0)),
)

_ICE_CREAM = (
    Part("cone", (0, 0, 0.62), (0.44, 0.44, 0.64), "waffle", (180, 0, 0), second=True),
    Part("ellipsoid", (0, 0, 1.42), (0.53, 0.53, 0.44)),
    Part("ellipsoid", (0, 0, 1.92), (0.38, 0.38, 0.36)),
)

_CAKE = (
    Part("cylinder", (0, 0, 0.04), (1.0, 1.0, 0.05), "steel"),
    Part("cylinder", (0, 0, 0.32), (0.85, 0.85, 0.26)),
    Part("torus", (0, 0, 0.57), (0.9, 0.9, 0.09), "cream", second=True),
    Part("cylinder", (0, 0, 0.8), (0.52, 0.52, 0.26)),
    Part("torus", (0, 0, 1.05), (0.57, 0.57, 0.08), "cream", second=True),
    Part("cylinder", (0, 0, 1.22), (0.07, 0.07, 0.2), "cream"),
    Part("ellipsoid", (0, 0, 1.53), (0.1, 0.1, 0.16), "orange"),
)

_BURGER = (
    Part("cylinder", (0, 0, 0.16), (0.78, 0.78, 0.17)),
    Part("cylinder", (0, 0, 0.4), (0.9, 0.9, 0.08), "leaf", second=True),
    Part("cylinder", (0, 0, 0.56), (0.82, 0.82, 0.11), "bark"),
    Part("box", (0, 0, 0.7), (0.66, 0.66, 0.04), "yellow", (0, 0, 45)),
    Part("dome", (0, 0, 1.0), (0.84, 0.84, 0.27)),
)

_CANDLE = (
    Part("cylinder", (0, 0, 0.06), (0.62, 0.62, 0.07), "gold", second=True),
    Part("torus", (0, 0.66, 0.12), (0.2, 0.2, 0.06), "gold", (0, 90, 0), second=True),
    Part("cylinder", (0, 0, 0.78), (0.28, 0.28, 0.68)),
    Part("cylinder", (0, 0, 1.5), (0.04, 0.04, 0.1), "dark"),
    Part("ellipsoid", (0, 0, 1.76), (0.15, 0.15, 0.26), "orange"),
    Part("ellipsoid", (0, 0, 1.68), (0.165, 0.165, 0.14), "yellow"),
)

GARDEN: tuple[ObjectKind, ...] = (
    ObjectKind("mushroom", _MUSHROOM, natural="red"),
    ObjectKind("tree", _TREE, natural="green"),
    ObjectKind("pine tree", _PINE, aliases=("fir tree",), natural="green"),
    ObjectKind("cactus", _CACTUS, plural="cacti", natural="green"),
    ObjectKind("flower", _FLOWER, has_front=True, natural="pink"),
    ObjectKind("apple", _APPLE, natural="red"),
    ObjectKind("ice cream", _ICE_CREAM, natural="pink"),
    ObjectKind("cake", _CAKE, natural="pink"),
    ObjectKind("burger", _BURGER, aliases=("hamburger",), natural="brown"),
    ObjectKind("candle", _CANDLE, natural="white"),
)
