"""The colours and patterns of the toybox world; all values are sRGB in [0, 1].

`COLORS` are the twelve colours a caption can name. `PAINTS` adds the natural colours of parts that
no caption names (the wood of a trunk, the glass of a window).
"""

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.10, 0.10),
    "green": (0.13, 0.64, 0.18),
    "blue": (0.12, 0.27, 0.86),
    "yellow": (0.98, 0.86, 0.12),
    "orange": (0.98, 0.50, 0.06),
    "purple": (0.50, 0.16, 0.72),
    "pink": (0.98, 0.50, 0.72),
    "brown": (0.46, 0.26, 0.11),
    "white": (0.97, 0.97, 0.97),
    "black": (0.10, 0.10, 0.11),
    "grey": (0.53, 0.53, 0.54),
    "cyan": (0.10, 0.80, 0.86),
}

PAINTS: dict[str, tuple[float, float, float]] = COLORS | {
    "cream": (0.96, 0.88, 0.70),
    "leaf": (0.24, 0.52, 0.16),
    "wood": (0.58, 0.36, 0.17),
    "bark": (0.40, 0.25, 0.13),
    "waffle": (0.87, 0.64, 0.33),
    "glass": (0.55, 0.76, 0.90),
    "steel": (0.70, 0.72, 0.75),
    "dark": (0.20, 0.20, 0.22),
    "stone": (0.62, 0.60, 0.57),
    "bread": (0.85, 0.58, 0.26),
    "gold": (0.93, 0.74, 0.22),
    "rose": (0.95, 0.66, 0.68),
}

PATTERNS: tuple[str, ...] = ("plain", "striped", "checkered", "dotted")
"""Surface patterns; the index is the code the kernels use."""


def pattern_partner(color: str) -> str:
    """Return the second colour of a pattern whose caption names only `color`."""
    return "grey" if color == "white" else "white"
