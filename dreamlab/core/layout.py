"""A layout: which object stands where, as data.

A box has a prompt of its own and a place in the world (z up, fronts towards +x, world units in the
cube [-1, 1]^3 that objects live in). Boxes may overlap. A file of a layout is YAML or JSON:

    prompt: a red mushroom next to a blue car     # the scene as a whole; may be left out
    boxes:
      - prompt: a red mushroom
        center: [0, -0.4, 0]
        size: [0.6, 0.6, 0.8]                     # along the box's own x, y, z
      - prompt: a blue car
        center: [0, 0.4, -0.1]
        size: [0.8, 0.6, 0.5]
        yaw: 30                                   # degrees, turns box and front from +x to +y
        views: {front: front view with headlights}

Nothing of it is ever executed. The geometry of boxes is in `core.regions`.

Source: the layouts of SemanticSDS (Yang et al. 2024) and LucidDreaming (Wang et al. 2023).
"""

import math
from dataclasses import dataclass, field
from itertools import product

MAX_BOXES = 12
"""Each box costs one more evaluation of the prior in a step that shows all of them."""
MAX_PROMPT = 1000
"""Characters of a prompt."""
HALF_SIDE = 1.0
"""Of the cube that boxes must lie in, world units."""
TOLERANCE = 1e-4
"""World units by which corners may miss the cube: files have rounded numbers."""
VIEWS = ("front", "side", "back", "overhead")
"""Views that a box may have words of its own for."""


@dataclass(frozen=True, slots=True)
class Box:
    """One object and its place."""

    prompt: str
    """What is in the box; names no other object."""
    center: tuple[float, float, float]
    """Its middle, world units."""
    size: tuple[float, float, float]
    """Its edges along its own x, y, z, world units."""
    yaw: float = 0.0
    """Degrees about the vertical axis, counter-clockwise seen from above; turns the object too."""
    front: float = 0.0
    """Where the object's front is in the box before it is turned, degrees; 0 is its +x side."""
    views: dict[str, str] = field(default_factory=dict)
    """Words for its front, side, back and overhead view, where they are not the stage's."""

    def __post_init__(self) -> None:
        check_prompt(self.prompt, "the prompt of a box")
        if min(self.size) <= 0:
            raise ValueError(f"sizes must be positive, got {list(self.size)}")
        numbers = (*self.center, *self.size, self.yaw, self.front)
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"center, size, yaw and front must be finite, got {numbers}")
        reach = max(abs(x) for corner in self.corners() for x in corner)
        if reach > HALF_SIDE + TOLERANCE:
            raise ValueError(
                f"the box of {self.prompt!r} reaches {reach:.3f} from the middle, and boxes must "
                f"lie in the cube from -{HALF_SIDE:g} to {HALF_SIDE:g}"
            )
        for view, words in self.views.items():
            if view not in VIEWS:
                raise ValueError(f"views has {view!r}, allowed are {', '.join(VIEWS)}")
            check_prompt(words, f"the words for the {view} view of {self.prompt!r}")

    @property
    def facing(self) -> float:
        """Azimuth of the object's front in the world, degrees."""
        return self.yaw + self.front

    @property
    def radius(self) -> float:
        """Half of the box's diagonal, world units."""
        return math.hypot(*self.size) / 2

    def corners(self) -> list[tuple[float, float, float]]:
        """Return the eight corners in the world, x slowest and z fastest, low before high."""
        cos, sin = math.cos(math.radians(self.yaw)), math.sin(math.radians(self.yaw))
        (cx, cy, cz), (sx, sy, sz) = self.center, self.size
        return [
            (cx + cos * a * sx - sin * b * sy, cy + sin * a * sx + cos * b * sy, cz + c * sz)
            for a, b, c in product((-0.5, 0.5), repeat=3)
        ]


@dataclass(frozen=True, slots=True)
class Layout:
    """Objects in their boxes."""

    boxes: tuple[Box, ...]
    """The objects; overlaps belong to the box that a point is deeper in."""
    prompt: str | None = None
    """The scene as a whole; none: the prompt of the run."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.boxes) <= MAX_BOXES:
            raise ValueError(f"boxes must name 1 to {MAX_BOXES} objects, got {len(self.boxes)}")
        if self.prompt is not None:
            check_prompt(self.prompt, "the prompt of the layout")

    def __len__(self) -> int:
        return len(self.boxes)


def check_prompt(text: str, what: str) -> None:
    """Refuse a text that is no prompt; `what` says which one it is.

    Raises:
        ValueError: it is empty, too long, or not one line of plain text.
    """
    if not text.strip():
        raise ValueError(f"{what} is empty; say what is there")
    if len(text) > MAX_PROMPT:
        raise ValueError(f"{what} has {len(text)} characters, at most {MAX_PROMPT} are allowed")
    if "${" in text or not text.isprintable():
        raise ValueError(f"{what} must be one line of plain text without '${{'")
