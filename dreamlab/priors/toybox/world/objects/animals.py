"""Animals and other creatures; all of them face +x."""

from dreamlab.priors.toybox.world.objects.parts import MAIN, ObjectKind, Part, mirrored


def _eyes(x: float, y: float, z: float, radius: float) -> tuple[Part, ...]:
    """White eyeballs with black pupils that look along +x."""
    ball = (radius * 0.6, radius, radius)
    pupil = (radius * 0.5, radius * 0.6, radius * 0.6)
    return (
        *mirrored(Part("ellipsoid", (x, y, z), ball, "white")),
        *mirrored(Part("ellipsoid", (x + radius * 0.35, y, z), pupil, "black")),
    )


_SNOWMAN = (
    Part("ellipsoid", (0, 0, 0.55), (0.62, 0.62, 0.57)),
    Part("ellipsoid", (0, 0, 1.35), (0.43, 0.43, 0.42)),
    *mirrored(Part("ellipsoid", (0.37, 0.15, 1.48), (0.07, 0.07, 0.07), "black")),
    Part("cone", (0.6, 0, 1.34), (0.09, 0.09, 0.26), "orange", (0, 90, 0)),
    *(
        Part("ellipsoid", (x, 0, z), (0.07, 0.07, 0.07), "black")
        for x, z in ((0.59, 0.78), (0.62, 0.5))
    ),
    Part("cylinder", (0, 0, 1.7), (0.48, 0.48, 0.04), "dark", second=True),
    Part("cylinder", (0, 0, 1.9), (0.3, 0.3, 0.2), "dark", second=True),
    *mirrored(Part("capsule", (0, 0.72, 1.0), (0.045, 0.045, 0.36), "bark", (-55, 0, 0))),
)

_DUCK = (
    Part("ellipsoid", (-0.1, 0, 0.5), (0.78, 0.55, 0.48)),
    Part("ellipsoid", (0.42, 0, 1.15), (0.4, 0.38, 0.38)),
    Part("cone", (0.35, 0, 0.82), (0.3, 0.3, 0.2), ratio=0.8),
    Part("cone", (-0.85, 0, 0.72), (0.22, 0.28, 0.24), rotation=(0, -55, 0)),
    Part("ellipsoid", (0.86, 0, 1.08), (0.24, 0.22, 0.09), "orange", second=True),
    *mirrored(Part("ellipsoid", (-0.15, 0.5, 0.6), (0.42, 0.12, 0.26), rotation=(0, 15, 0))),
    *_eyes(0.7, 0.2, 1.28, 0.11),
)

_BEAR = (
    Part("ellipsoid", (0, 0, 0.62), (0.5, 0.56, 0.6)),
    Part("ellipsoid", (0.42, 0, 0.6), (0.14, 0.34, 0.38), "cream", second=True),
    Part("ellipsoid", (0.05, 0, 1.5), (0.48, 0.52, 0.46)),
    *mirrored(Part("ellipsoid", (0, 0.42, 1.88), (0.12, 0.2, 0.2))),
    Part("ellipsoid", (0.48, 0, 1.38), (0.2, 0.24, 0.18), "cream", second=True),
    Part("ellipsoid", (0.66, 0, 1.45), (0.08, 0.1, 0.07), "black"),
    *mirrored(Part("ellipsoid", (0.47, 0.2, 1.64), (0.06, 0.07, 0.07), "black")),
    *mirrored(Part("capsule", (0.12, 0.6, 0.85), (0.16, 0.16, 0.34), rotation=(40, 0, 0))),
    *mirrored(Part("ellipsoid", (0.34, 0.36, 0.17), (0.34, 0.2, 0.19))),
)

_CAT = (
    Part("ellipsoid", (-0.1, 0, 0.55), (0.52, 0.42, 0.56)),
    Part("ellipsoid", (0.18, 0, 1.35), (0.42, 0.5, 0.4)),
    *mirrored(Part("pyramid", (0.14, 0.3, 1.78), (0.14, 0.17, 0.24), rotation=(-14, 0, 0))),
    *_eyes(0.54, 0.19, 1.42, 0.12),
    Part("ellipsoid", (0.56, 0, 1.22), (0.1, 0.17, 0.12), "white", second=True),
    Part("ellipsoid", (0.66, 0, 1.28), (0.05, 0.07, 0.05), "rose"),
    *mirrored(Part("capsule", (0.3, 0.2, 0.32), (0.12, 0.12, 0.32))),
    Part("ellipsoid", (0.36, 0, 0.72), (0.14, 0.2, 0.26), "white", second=True),
    Part("capsule", (-0.68, 0, 0.5), (0.09, 0.09, 0.5), rotation=(0, -20, 0)),
)

_PENGUIN = (
    Part("ellipsoid", (0, 0, 0.78), (0.5, 0.54, 0.74)),
    Part("ellipsoid", (0.17, 0, 0.72), (0.38, 0.41, 0.62), "white", second=True),
    Part("ellipsoid", (0.02, 0, 1.62), (0.4, 0.42, 0.4)),
    Part("cone", (0.52, 0, 1.56), (0.12, 0.14, 0.2), "orange", (0, 90, 0)),
    *_eyes(0.36, 0.18, 1.7, 0.12),
    *mirrored(Part("ellipsoid", (0, 0.58, 0.85), (0.2, 0.09, 0.46), rotation=(22, 0, 0))),
    *mirrored(Part("ellipsoid", (0.22, 0.24, 0.07), (0.3, 0.18, 0.08), "orange")),
)

_OWL = (
    Part("ellipsoid", (0, 0, 0.85), (0.58, 0.64, 0.85)),
    Part("ellipsoid", (0.24, 0, 0.6), (0.4, 0.45, 0.5), "cream", second=True),
    *mirrored(Part("cylinder", (0.48, 0.25, 1.2), (0.27, 0.27, 0.1), "white", (0, 90, 0))),
    *mirrored(Part("cylinder", (0.56, 0.23, 1.2), (0.13, 0.13, 0.06), "black", (0, 90, 0))),
    Part("cone", (0.64, 0, 1.0), (0.1, 0.1, 0.14), "orange", (0, 130, 0)),
    *mirrored(Part("cone", (0.05, 0.4, 1.66), (0.17, 0.17, 0.24), rotation=(-20, 0, 0))),
    *mirrored(Part("ellipsoid", (-0.05, 0.62, 0.75), (0.36, 0.1, 0.5), rotation=(10, 0, 0))),
    *mirrored(Part("ellipsoid", (0.3, 0.22, 0.06), (0.22, 0.15, 0.08), "orange")),
)

_PIG = (
    Part("ellipsoid", (-0.15, 0, 0.75), (0.78, 0.52, 0.5)),
    Part("ellipsoid", (0.62, 0, 0.95), (0.4, 0.42, 0.4)),
    Part("cylinder", (1.0, 0, 0.88), (0.17, 0.21, 0.1), "rose", (0, 90, 0), second=True),
    *mirrored(Part("ellipsoid", (1.1, 0.08, 0.89), (0.02, 0.045, 0.07), "dark")),
    *_eyes(0.92, 0.2, 1.14, 0.1),
    *mirrored(Part("pyramid", (0.6, 0.28, 1.4), (0.1, 0.17, 0.18), rotation=(-25, 15, 0))),
    *mirrored(Part("cylinder", (0.3, 0.28, 0.22), (0.14, 0.14, 0.24))),
    *mirrored(Part("cylinder", (-0.58, 0.28, 0.22), (0.14, 0.14, 0.24))),
    Part("torus", (-0.96, 0, 0.92), (0.13, 0.13, 0.04), rotation=(90, 0, 0)),
)

_RABBIT = (
    Part("ellipsoid", (-0.05, 0, 0.5), (0.52, 0.46, 0.5)),
    Part("ellipsoid", (0.14, 0, 1.15), (0.38, 0.4, 0.36)),
    *mirrored(Part("ellipsoid", (0.05, 0.2, 1.8), (0.1, 0.15, 0.46), rotation=(-10, 0, 0))),
    *mirrored(
        Part("ellipsoid", (0.12, 0.2, 1.8), (0.06, 0.09, 0.36), "rose", (-10, 0, 0), second=True)
    ),
    *_eyes(0.45, 0.18, 1.24, 0.11),
    Part("ellipsoid", (0.52, 0, 1.08), (0.07, 0.08, 0.06), "rose", second=True),
    Part("box", (0.48, 0, 0.95), (0.04, 0.07, 0.07), "white"),
    *mirrored(Part("ellipsoid", (0.32, 0.26, 0.12), (0.32, 0.16, 0.13))),
    Part("ellipsoid", (-0.58, 0, 0.42), (0.18, 0.18, 0.18), "white"),
)

_GHOST = (
    Part("cylinder", (0, 0, 0.75), (0.6, 0.6, 0.5)),
    Part("dome", (0, 0, 1.55), (0.6, 0.6, 0.3)),
    *(
        Part("ellipsoid", (0.42 * x, 0.42 * y, 0.24), (0.2, 0.2, 0.2))
        for x, y in ((1, 0), (0.5, 0.866), (-0.5, 0.866), (-1, 0), (-0.5, -0.866), (0.5, -0.866))
    ),
    *mirrored(Part("ellipsoid", (0.54, 0.22, 1.32), (0.12, 0.13, 0.2), "black")),
    Part("ellipsoid", (0.58, 0, 0.92), (0.08, 0.14, 0.12), "black"),
    *mirrored(Part("ellipsoid", (0.05, 0.64, 0.95), (0.16, 0.22, 0.14))),
)

_FROG = (
    Part("ellipsoid", (-0.05, 0, 0.5), (0.72, 0.7, 0.46)),
    Part("ellipsoid", (0.28, 0, 0.36), (0.5, 0.5, 0.3), "cream", second=True),
    Part("ellipsoid", (0.22, 0, 0.85), (0.55, 0.62, 0.36)),
    *mirrored(Part("ellipsoid", (0.28, 0.36, 1.24), (0.24, 0.24, 0.24))),
    *mirrored(Part("ellipsoid", (0.42, 0.38, 1.27), (0.16, 0.18, 0.18), "white")),
    *mirrored(Part("ellipsoid", (0.53, 0.39, 1.27), (0.08, 0.1, 0.1), "black")),
    Part("box", (0.62, 0, 0.78), (0.14, 0.36, 0.035), "dark"),
    *mirrored(Part("ellipsoid", (-0.25, 0.68, 0.28), (0.46, 0.22, 0.28))),
    *mirrored(Part("ellipsoid", (0.45, 0.5, 0.1), (0.34, 0.2, 0.1))),
)

_TURTLE = (
    Part("dome", (-0.1, 0, 0.62), (0.85, 0.75, 0.3), second=False),
    Part("cylinder", (-0.1, 0, 0.3), (0.9, 0.8, 0.07), "cream", second=True),
    Part("ellipsoid", (0.95, 0, 0.55), (0.3, 0.26, 0.26), "leaf"),
    *_eyes(1.14, 0.14, 0.66, 0.1),
    *mirrored(Part("ellipsoid", (0.5, 0.68, 0.16), (0.22, 0.3, 0.16), "leaf", (0, 0, 35))),
    *mirrored(Part("ellipsoid", (-0.65, 0.62, 0.16), (0.2, 0.26, 0.16), "leaf", (0, 0, -35))),
    Part("cone", (-1.05, 0, 0.28), (0.1, 0.1, 0.18), "leaf", (0, -90, 0)),
)

_ELEPHANT = (
    Part("ellipsoid", (-0.2, 0, 0.95), (0.8, 0.6, 0.6)),
    Part("ellipsoid", (0.62, 0, 1.25), (0.42, 0.42, 0.44)),
    *mirrored(Part("ellipsoid", (0.42, 0.58, 1.28), (0.1, 0.4, 0.46), rotation=(0, 0, 20))),
    *mirrored(
        Part("ellipsoid", (0.5, 0.58, 1.26), (0.05, 0.29, 0.34), "rose", (0, 0, 20), second=True)
    ),
    Part("capsule", (1.02, 0, 0.92), (0.14, 0.14, 0.36), rotation=(0, -18, 0)),
    Part("capsule", (1.16, 0, 0.52), (0.12, 0.12, 0.24), rotation=(0, -60, 0)),
    *mirrored(Part("cone", (1.05, 0.24, 0.92), (0.07, 0.07, 0.2), "white", (0, 125, 0))),
    *_eyes(0.98, 0.22, 1.42, 0.09),
    *mirrored(Part("cylinder", (0.3, 0.32, 0.28), (0.19, 0.19, 0.3))),
    *mirrored(Part("cylinder", (-0.68, 0.32, 0.28), (0.19, 0.19, 0.3))),
    Part("capsule", (-1.0, 0, 0.85), (0.05, 0.05, 0.3), MAIN, (0, 15, 0)),
)

ANIMALS: tuple[ObjectKind, ...] = (
    ObjectKind("snowman", _SNOWMAN, plural="snowmen", has_front=True, natural="white"),
    ObjectKind("duck", _DUCK, aliases=("rubber duck",), has_front=True, natural="yellow"),
    ObjectKind("bear", _BEAR, aliases=("teddy bear",), has_front=True, natural="brown"),
    ObjectKind("cat", _CAT, has_front=True, natural="orange"),
    ObjectKind("penguin", _PENGUIN, has_front=True, natural="black"),
    ObjectKind("owl", _OWL, has_front=True, natural="brown"),
    ObjectKind("pig", _PIG, has_front=True, natural="pink"),
    ObjectKind("rabbit", _RABBIT, aliases=("bunny",), has_front=True, natural="white"),
    ObjectKind("ghost", _GHOST, has_front=True, natural="white"),
    ObjectKind("frog", _FROG, has_front=True, natural="green"),
    ObjectKind("turtle", _TURTLE, has_front=True, natural="green", seat=(-0.1, 0, 0.91, 0.45)),
    ObjectKind(
        "elephant",
        _ELEPHANT,
        has_front=True,
        natural="grey",
        seat=(-0.2, 0, 1.54, 0.42),
    ),
)
