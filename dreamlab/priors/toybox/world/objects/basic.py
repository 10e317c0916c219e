"""The plain solids of the catalogue."""

from dreamlab.priors.toybox.world.objects.parts import ObjectKind, Part

_HEXAGON = (0.7, 0.7 * 0.75**0.5, 0.8)

BASIC: tuple[ObjectKind, ...] = (
    ObjectKind("sphere", (Part("ellipsoid", (0, 0, 0), (1, 1, 1)),), aliases=("ball",)),
    ObjectKind(
        "cube",
        (Part("box", (0, 0, 0), (1, 1, 1)),),
        aliases=("box", "block"),
        seat=(0, 0, 1, 1),
    ),
    ObjectKind("cylinder", (Part("cylinder", (0, 0, 0), (0.7, 0.7, 0.9)),), seat=(0, 0, 0.9, 0.7)),
    ObjectKind("cone", (Part("cone", (0, 0, 0), (0.8, 0.8, 0.9)),)),
    ObjectKind("torus", (Part("torus", (0, 0, 0), (1, 1, 0.3)),), plural="tori", aliases=("ring",)),
    ObjectKind("pyramid", (Part("pyramid", (0, 0, 0), (0.9, 0.9, 0.8)),)),
    ObjectKind("capsule", (Part("capsule", (0, 0, 0), (0.42, 0.42, 1.1)),), aliases=("pill",)),
    ObjectKind(
        "ellipsoid",
        (Part("ellipsoid", (0, 0, 0), (1.0, 1.0, 0.5)),),
    ),
    ObjectKind("wedge", (Part("wedge", (0, 0, 0), (1.0, 0.7, 0.6)),), aliases=("ramp",)),
    ObjectKind("triangular prism", (Part("prism", (0, 0, 0), (1.0, 0.75, 0.65)),)),
    ObjectKind("half sphere", (Part("dome", (0, 0, 0), (1, 1, 0.5)),), aliases=("dome",)),
    ObjectKind("hexagonal prism", (Part("hexagon", (0, 0, 0), _HEXAGON),), seat=(0, 0, 0.8, 0.65)),
    ObjectKind(
        "truncated cone",
        (Part("cone", (0, 0, 0), (0.9, 0.9, 0.65), ratio=0.5),),
        seat=(0, 0, 0.65, 0.45),
    ),
    ObjectKind(
        "rounded cube",
        (Part("rounded box", (0, 0, 0), (1, 1, 1), ratio=0.55),),
        seat=(0, 0, 1, 0.7),
    ),
)
