"""Furniture and things of the household."""

from dreamlab.priors.toybox.world.objects.parts import MAIN, ObjectKind, Part, mirrored


def _legs(x: float, y: float, height: float, radius: float, paint: str = MAIN) -> tuple[Part, ...]:
    return tuple(
        Part("box", (sx * x, sy * y, height / 2), (radius, radius, height / 2), paint, second=True)
        for sx in (-1, 1)
        for sy in (-1, 1)
    )


_TABLE = (
    Part("box", (0, 0, 1.0), (0.95, 0.95, 0.09)),
    *_legs(0.78, 0.78, 0.95, 0.1),
)

_CHAIR = (
    Part("box", (0, 0, 0.8), (0.52, 0.52, 0.09)),
    Part("box", (-0.44, 0, 1.4), (0.08, 0.52, 0.55)),
    *_legs(0.43, 0.43, 0.75, 0.09),
)

_SOFA = (
    Part("rounded box", (0, 0, 0.36), (0.5, 1.0, 0.22), ratio=0.3),
    Part("rounded box", (-0.4, 0, 0.72), (0.2, 1.0, 0.52), ratio=0.4),
    *mirrored(Part("rounded box", (0.02, 0.98, 0.5), (0.52, 0.2, 0.36), ratio=0.5)),
    *mirrored(Part("rounded box", (0.14, 0.39, 0.6), (0.38, 0.38, 0.12), ratio=0.5, second=True)),
    *mirrored(Part("box", (0.36, 0.95, 0.08), (0.08, 0.08, 0.1), "bark")),
    *mirrored(Part("box", (-0.42, 0.95, 0.08), (0.08, 0.08, 0.1), "bark")),
)

_LAMP = (
    Part("cylinder", (0, 0, 0.06), (0.46, 0.46, 0.07), "steel", second=True),
    Part("cylinder", (0, 0, 0.75), (0.07, 0.07, 0.7), "steel", second=True),
    Part("cone", (0, 0, 1.55), (0.72, 0.72, 0.42), ratio=0.5),
)

_MUG = (
    Part("cup", (0, 0, 0.62), (0.55, 0.55, 0.62), ratio=0.84),
    Part("cylinder", (0, 0, 0.55), (0.5, 0.5, 0.5), "bark"),
    Part("torus", (0, 0.62, 0.62), (0.36, 0.36, 0.09), rotation=(0, 90, 0), second=True),
)

_BOTTLE = (
    Part("cylinder", (0, 0, 0.6), (0.42, 0.42, 0.6)),
    Part("cylinder", (0, 0, 0.58), (0.435, 0.435, 0.26), "cream", second=True),
    Part("cone", (0, 0, 1.38), (0.42, 0.42, 0.18), ratio=0.4),
    Part("cylinder", (0, 0, 1.7), (0.168, 0.168, 0.2)),
    Part("cylinder", (0, 0, 1.95), (0.2, 0.2, 0.1), "steel", second=True),
)

_UMBRELLA = (
    Part("dome", (0, 0, 1.45), (1.0, 1.0, 0.26)),
    Part("cylinder", (0, 0, 0.9), (0.05, 0.05, 0.75), "dark"),
    Part("cylinder", (0, 0, 1.78), (0.05, 0.05, 0.12), "dark"),
    Part("capsule", (0, 0.13, 0.13), (0.07, 0.07, 0.2), "wood", (90, 0, 0), second=True),
    Part("capsule", (0, 0.28, 0.2), (0.07, 0.07, 0.14), "wood", second=True),
)

_GIFT = (
    Part("box", (0, 0, 0.55), (0.7, 0.7, 0.55)),
    Part("box", (0, 0, 1.1), (0.76, 0.76, 0.12)),
    Part("box", (0, 0, 0.55), (0.715, 0.16, 0.545), "gold", second=True),
    Part("box", (0, 0, 0.55), (0.16, 0.715, 0.545), "gold", second=True),
    Part("box", (0, 0, 1.1), (0.775, 0.16, 0.135), "gold", second=True),
    Part("box", (0, 0, 1.1), (0.16, 0.775, 0.135), "gold", second=True),
    *mirrored(
        Part("ellipsoid", (0, 0.27, 1.38), (0.14, 0.28, 0.17), "gold", (25, 0, 0), second=True)
    ),
)

_TEAPOT = (
    Part("ellipsoid", (0, 0, 0.62), (0.72, 0.72, 0.6)),
    Part("cylinder", (0, 0, 0.08), (0.42, 0.42, 0.08)),
    Part("dome", (0, 0, 1.22), (0.4, 0.4, 0.08), second=True),
    Part("ellipsoid", (0, 0, 1.38), (0.11, 0.11, 0.11), "gold", second=True),
    Part("torus", (0, -0.72, 0.66), (0.38, 0.38, 0.08), rotation=(0, 90, 0), second=True),
    Part("cone", (0, 0.88, 0.78), (0.19, 0.19, 0.42), rotation=(-42, 0, 0), ratio=0.5),
)

_BARREL = (
    Part("cone", (0, 0, 0.4), (0.72, 0.72, 0.4), rotation=(180, 0, 0), ratio=0.78),
    Part("cone", (0, 0, 1.2), (0.72, 0.72, 0.4), ratio=0.78),
    Part("cylinder", (0, 0, 0.3), (0.695, 0.695, 0.08), "steel", second=True),
    Part("cylinder", (0, 0, 1.3), (0.695, 0.695, 0.08), "steel", second=True),
    Part("cylinder", (0, 0, 0.8), (0.75, 0.75, 0.08), "steel", second=True),
)

_TROPHY = (
    Part("box", (0, 0, 0.16), (0.42, 0.42, 0.17), "dark", second=True),
    Part("cone", (0, 0, 0.55), (0.24, 0.24, 0.26), ratio=0.4),
    Part("dome", (0, 0, 0.98), (0.55, 0.55, 0.24), rotation=(180, 0, 0)),
    Part("cup", (0, 0, 1.5), (0.55, 0.55, 0.32), ratio=0.84),
    *mirrored(Part("torus", (0, 0.66, 1.36), (0.3, 0.3, 0.07), rotation=(0, 90, 0))),
)

_TELEVISION = (
    Part("rounded box", (0, 0, 0.85), (0.42, 0.95, 0.65), ratio=0.2),
    Part("rounded box", (0.33, 0.14, 0.87), (0.12, 0.66, 0.48), "dark", ratio=0.5),
    *(
        Part("cylinder", (0.42, -0.72, z), (0.09, 0.09, 0.05), "steel", (0, 90, 0))
        for z in (0.75, 1.05)
    ),
    *mirrored(Part("box", (0, 0.6, 0.1), (0.12, 0.1, 0.12), "dark", second=True)),
    *mirrored(Part("cylinder", (0, 0.28, 1.75), (0.035, 0.035, 0.36), "dark", (-35, 0, 0))),
)

_CLOCK = (
    Part("cylinder", (0, 0, 0.9), (0.75, 0.75, 0.24), rotation=(0, 90, 0)),
    Part("cylinder", (0.2, 0, 0.9), (0.6, 0.6, 0.08), "white", (0, 90, 0)),
    Part("box", (0.29, 0, 1.1), (0.02, 0.06, 0.26), "black"),
    Part("box", (0.29, 0.16, 0.9), (0.02, 0.22, 0.06), "black"),
    *mirrored(Part("dome", (0, 0.45, 1.6), (0.3, 0.3, 0.14), "gold", (-35, 0, 0), second=True)),
    Part("capsule", (0, 0, 1.75), (0.06, 0.06, 0.16), "dark"),
    *mirrored(Part("capsule", (0, 0.5, 0.2), (0.09, 0.09, 0.22), "gold", (35, 0, 0), second=True)),
)

_TRAFFIC_LIGHT = (
    Part("cylinder", (0, 0, 0.05), (0.34, 0.34, 0.06), "dark", second=True),
    Part("cylinder", (0, 0, 0.4), (0.1, 0.1, 0.4), "dark", second=True),
    Part("box", (0, 0, 1.45), (0.26, 0.38, 0.78)),
    *(
        Part("cylinder", (0.26, 0, z), (0.21, 0.21, 0.06), paint, (0, 90, 0))
        for z, paint in ((1.95, "red"), (1.45, "yellow"), (0.95, "green"))
    ),
)

_HAT = (
    Part("cylinder", (0, 0, 0.06), (1.0, 1.0, 0.07)),
    Part("cylinder", (0, 0, 0.66), (0.6, 0.6, 0.6)),
    Part("cylinder", (0, 0, 0.28), (0.62, 0.62, 0.15), "steel", second=True),
)

_CROWN = (
    Part("cup", (0, 0, 0.35), (0.85, 0.85, 0.36), ratio=0.88),
    *(
        Part("cone", (0.75 * x, 0.75 * y, 0.92), (0.2, 0.2, 0.34))
        for x, y in (
            (1.0, 0.0),
            (0.5, 0.866),
            (-0.5, 0.866),
            (-1.0, 0.0),
            (-0.5, -0.866),
            (0.5, -0.866),
        )
    ),
    *(
        Part("ellipsoid", (0.83 * x, 0.83 * y, 0.34), (0.12, 0.12, 0.12), "red", second=True)
        for x, y in (
            (1.0, 0.0),
            (0.5, 0.866),
            (-0.5, 0.866),
            (-1.0, 0.0),
            (-0.5, -0.866),
            (0.5, -0.866),
        )
    ),
)

HOME: tuple[ObjectKind, ...] = (
    ObjectKind("table", _TABLE, natural="brown", seat=(0, 0, 1.09, 0.7)),
    ObjectKind("chair", _CHAIR, has_front=True, natural="brown", seat=(0.08, 0, 0.89, 0.42)),
    ObjectKind("sofa", _SOFA, aliases=("couch",), has_front=True, seat=(0.16, 0, 0.72, 0.4)),
    ObjectKind("lamp", _LAMP, natural="yellow"),
    ObjectKind("mug", _MUG, aliases=("cup",), natural="white"),
    ObjectKind("bottle", _BOTTLE, natural="green"),
    ObjectKind("umbrella", _UMBRELLA),
    ObjectKind("gift box", _GIFT, plural="gift boxes", aliases=("gift", "present"), natural="red"),
    ObjectKind("teapot", _TEAPOT, natural="white"),
    ObjectKind("barrel", _BARREL, natural="brown", seat=(0, 0, 1.6, 0.56)),
    ObjectKind("trophy", _TROPHY, plural="trophies", natural="yellow"),
    ObjectKind("television", _TELEVISION, aliases=("tv",), has_front=True),
    ObjectKind("clock", _CLOCK, aliases=("alarm clock",), has_front=True),
    ObjectKind("traffic light", _TRAFFIC_LIGHT, has_front=True, natural="black"),
    ObjectKind("hat", _HAT, aliases=("top hat",), natural="black", seat=(0, 0, 1.26, 0.55)),
    ObjectKind("crown", _CROWN, natural="yellow"),
)
