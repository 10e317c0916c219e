"""Scenes of the toybox world: what they are, how they are drawn, which ones are held out.

A scene is one item, two items in a relation, or two or three copies of one item.

Arrangement: every object is first scaled to the unit ball (`solids`); scenes are arranged in those
units, then centred and scaled again so that they fit the ball of radius 0.85 around the origin.
Objects stand upright and face +x.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from dreamlab.core.errors import InputError, nearest
from dreamlab.priors.toybox.world.objects.catalogue import CATALOGUE, OBJECT_INDEX, OBJECTS
from dreamlab.priors.toybox.world.objects.parts import ObjectKind
from dreamlab.priors.toybox.world.objects.solids import solid
from dreamlab.priors.toybox.world.palette import COLORS, PATTERNS, pattern_partner

Size = Literal["small", "big"]
Relation = Literal["on top of", "next to", "in front of"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)
SIZES: tuple[Size, ...] = get_args(Size)
SUPPORTS: tuple[str, ...] = tuple(kind.name for kind in CATALOGUE if kind.seat is not None)
"""The objects that something can stand on."""

SCENE_RADIUS = 0.85
"""Every scene lies in the ball of this radius around the origin."""

SINGLE_RADIUS: dict[Size | None, float] = {None: 0.78, "small": 0.5, "big": SCENE_RADIUS}
_GROUP_RADIUS: dict[Size | None, float] = {None: 0.80, "small": 0.55, "big": SCENE_RADIUS}
_SIZE_FACTOR: dict[Size | None, float] = {None: 1.0, "small": 0.6, "big": 1.35}


_COLOR_INDEX = {name: index for index, name in enumerate(COLORS)}
_COLOR_NAMES = tuple(COLORS)


@dataclass(frozen=True)
class Item:
    """A painted object.

    A second colour paints the pattern if there is one, else the object's second parts; without it a
    pattern is drawn in `palette.pattern_partner(color)` and second parts keep their natural colour.
    """

    object: str
    color: str
    pattern: str = "plain"
    second_color: str | None = None
    size: Size | None = None

    def __post_init__(self) -> None:
        _check("object", self.object, OBJECTS)
        _check("colour", self.color, COLORS)
        _check("pattern", self.pattern, PATTERNS)
        if self.size is not None:
            _check("size", self.size, SIZES)
        if self.second_color is None:
            return
        _check("second colour", self.second_color, COLORS)
        if self.second_color == self.color:
            raise InputError(
                f"The second colour of the {self.object} is its first one, {self.color!r}.",
                "Name two different colours, or one.",
            )
        if self.pattern == "plain" and not self.kind.is_two_colored:
            raise InputError(
                f"A plain {self.object} has one colour, got {self.color!r} and "
                f"{self.second_color!r}.",
                "Name one colour, or a pattern (striped, checkered, dotted).",
            )

    @property
    def kind(self) -> ObjectKind:
        return OBJECTS[self.object]


@dataclass(frozen=True)
class Scene:
    """Items and how they are arranged."""

    items: tuple[Item, ...]
    relation: Relation | None = None
    """Of the first item to the second; None for one item."""
    count: int = 1
    """Copies of the only item."""

    def __post_init__(self) -> None:
        if self.count not in (1, 2, 3):
            raise InputError(f"A scene holds 1, 2 or 3 copies, got {self.count}.", "Use 1 to 3.")
        if self.relation is None:
            if len(self.items) != 1:
                raise InputError(
                    f"A scene of {len(self.items)} items has no relation.",
                    f"Relate two items by one of: {', '.join(RELATIONS)}.",
                )
            return
        _check("relation", self.relation, RELATIONS)
        if len(self.items) != 2 or self.count != 1:
            raise InputError(
                f"{self.relation!r} relates two single items, got {len(self.items)} items and "
                f"count {self.count}.",
                "Name two objects, each once.",
            )
        if self.relation == "on top of" and self.items[1].kind.seat is None:
            raise InputError(
                f"Nothing can stand on top of a {self.items[1].object} in this world.",
                f"Use one of: {', '.join(SUPPORTS)}.",
            )

    @property
    def has_front(self) -> bool:
        """Whether any item has a clear front; all fronts face +x."""
        return any(item.kind.has_front for item in self.items)


def _check(what: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise InputError(
            f"There is no {what} {value!r} in the toybox world.", nearest(value, allowed)
        )


def is_held_out_item(color: str, name: str) -> bool:
    """Whether a colour of an object is withheld from training: (2 c + o + 2) mod 13 < 2.

    c and o are the places of the colour in `COLORS` and of the object in `CATALOGUE`. Since 13 is a
    prime, every object misses one or two of the twelve colours and every colour misses about 2/13
    of the objects. Among the rules of this form this one withholds fewest natural colours.
    """
    return (2 * _COLOR_INDEX[color] + OBJECT_INDEX[name] + 2) % 13 < 2


def is_held_out_relation(first: str, relation: Relation, second: str) -> bool:
    """Whether two objects in a relation are withheld: (a + b + 4 r + 6) mod 13 < 2.

    a and b are places in `CATALOGUE` and r the place in `RELATIONS`. The rule does not change when
    the objects are swapped, so a withheld "a next to b" is not seen as "b next to a" either.
    """
    places = OBJECT_INDEX[first] + OBJECT_INDEX[second]
    return (places + 4 * RELATIONS.index(relation) + 6) % 13 < 2


def is_held_out(scene: Scene) -> bool:
    """Whether a scene is withheld from training, for any of its items or for its relation.

    Only the first colour of an item counts; patterns, second colours, sizes and counts do not.
    """
    if any(is_held_out_item(item.color, item.object) for item in scene.items):
        return True
    if scene.relation is None:
        return False
    first, second = scene.items
    return is_held_out_relation(first.object, scene.relation, second.object)


def sample_scene(rng: np.random.Generator, held_out: bool = False) -> Scene:
    """Draw a scene: 70 % single items, 20 % relations, 10 % counts.

    Args:
        rng: source of randomness.
        held_out: draw among the withheld scenes instead of the training ones.

    The arrangement is drawn first and kept, so withholding does not change these shares.
    """
    arrangement = rng.choice(3, p=(0.7, 0.2, 0.1))
    relation = RELATIONS[rng.integers(3)] if arrangement == 1 else None
    count = int(rng.integers(2, 4)) if arrangement == 2 else 1
    while True:
        items = (_sample_item(rng, crowded=arrangement > 0),)
        if relation is not None:
            names = SUPPORTS if relation == "on top of" else None
            items = (*items, _sample_item(rng, crowded=True, names=names))
            if items[0] == items[1]:
                continue
        scene = Scene(items, relation, count)
        if is_held_out(scene) == held_out:
            return scene


def sample_simple_scene(rng: np.random.Generator, names: tuple[str, ...] | None = None) -> Scene:
    """Draw one object of the training scenes, painted in one plain colour in most cases.

    Args:
        rng: source of randomness.
        names: objects to draw from; all by default.
    """
    while True:
        scene = Scene((_sample_item(rng, crowded=True, names=names),))
        if not is_held_out(scene):
            return scene


def _sample_item(
    rng: np.random.Generator, *, crowded: bool, names: tuple[str, ...] | None = None
) -> Item:
    """Draw an item; items of crowded scenes are plainer, since they are drawn smaller."""
    names = names or tuple(OBJECTS)
    kind = OBJECTS[names[rng.integers(len(names))]]
    color = _COLOR_NAMES[rng.integers(len(_COLOR_NAMES))]
    is_plain = rng.random() < (0.85 if crowded else 0.57)
    pattern = "plain" if is_plain else PATTERNS[rng.integers(1, len(PATTERNS))]
    second_color = None
    if rng.random() < (0.25 if is_plain else 0.5) and (kind.is_two_colored or not is_plain):
        others = [name for name in _COLOR_NAMES if name != color]
        second_color = others[rng.integers(len(others))]
    size = SIZES[rng.integers(2)] if rng.random() < 0.16 else None
    return Item(kind.name, color, pattern, second_color, size)


@dataclass(frozen=True)
class PackedScenes:
    """A batch of scenes as arrays of primitives, world space; see `kernels` for the meaning."""

    start: Int[ndarray, " scenes_and_one"]
    """Part numbers at which the scenes start, and the number of parts."""
    shape: Int[ndarray, " parts"]
    center: Float[ndarray, "parts 3"]
    to_local: Float[ndarray, "parts 3 3"]
    """World to part rotation."""
    size: Float[ndarray, "parts 3"]
    ratio: Float[ndarray, " parts"]
    reach: Float[ndarray, " parts"]
    """Radius of the ball around `center` that holds the part."""
    color: Float[ndarray, "parts 3"]
    """Albedo, sRGB."""
    partner: Float[ndarray, "parts 3"]
    """Second albedo of the pattern, sRGB."""
    pattern: Int[ndarray, " parts"]
    anchor: Float[ndarray, "parts 3"]
    """Origin of the pattern: the centre of the item."""

    def __len__(self) -> int:
        return len(self.start) - 1


@dataclass(frozen=True)
class _Placed:
    """An item at its place: a point x of its solid goes to `offset + scale * x`."""

    item: Item
    scale: float
    offset: ndarray


def _standing(item: Item, x: float, y: float, scale: float) -> _Placed:
    """Put an item on the ground z = 0."""
    return _Placed(item, scale, np.array([x, y, -scale * solid(item.object).low[2]]))


def _arrange(scene: Scene) -> tuple[list[_Placed], float]:
    """Return the placed items, not centred yet, and the radius that the scene shall have."""
    first = scene.items[0]
    if scene.relation is not None:
        return _relate(first, scene.relation, scene.items[1]), SCENE_RADIUS
    if scene.count == 1:
        return [_standing(first, 0.0, 0.0, 1.0)], SINGLE_RADIUS[first.size]
    # turned away from the axes, so that copies do not hide each other in a side view
    angles = (-120, 60) if scene.count == 2 else (0, 120, 240)
    spread = solid(first.object).radius * (1.08 if scene.count == 2 else 1.22)
    theta = np.deg2rad(angles)
    places = zip(spread * np.cos(theta), spread * np.sin(theta), strict=True)
    return [_standing(first, x, y, 1.0) for x, y in places], _GROUP_RADIUS[first.size]


def _relate(first: Item, relation: Relation, second: Item) -> list[_Placed]:
    """Place `second` at the origin and `first` on its seat, at its -y side, or at its +x side."""
    body, other = solid(first.object), solid(second.object)
    a, b = _SIZE_FACTOR[first.size], _SIZE_FACTOR[second.size]
    below = _standing(second, 0.0, 0.0, b)
    if relation == "on top of":
        assert other.seat is not None  # checked by Scene
        x, y, z = below.offset + b * other.seat[:3]
        upper = _standing(first, x, y, a * b * min(0.85, 1.15 * other.seat[3] / body.radius))
        # sunk a little, so that round bottoms touch
        lift = np.array([0, 0, z - 0.01])
        return [_Placed(first, upper.scale, upper.offset + lift), below]
    if relation == "next to":
        return [_standing(first, 0.0, b * other.low[1] - a * body.high[1] - 0.15, a), below]
    a *= 0.75  # lower than what stands behind it, which stays in sight
    return [_standing(first, b * other.high[0] - a * body.low[0] + 0.15, 0.0, a), below]


def _fit(placed: list[_Placed], radius: float) -> list[_Placed]:
    """Centre the bounding box of placed items and scale them to a radius."""
    clouds = [p.offset + p.scale * solid(p.item.object).outline for p in placed]
    points = np.concatenate(clouds)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    scale = radius / np.linalg.norm(points - middle, axis=-1).max()
    return [_Placed(p.item, p.scale * scale, (p.offset - middle) * scale) for p in placed]


def _paint(item: Item) -> tuple[ndarray, ndarray, ndarray]:
    """Return colour [parts, 3], partner [parts, 3] and pattern [parts] of an item's parts."""
    body = solid(item.object)
    main = np.array(COLORS[item.color])
    color = np.where(body.is_main[:, None], main, body.natural)
    partner = np.array(COLORS[item.second_color or pattern_partner(item.color)])
    pattern = np.where(body.is_main, PATTERNS.index(item.pattern), 0)
    if item.second_color is not None and item.pattern == "plain":
        color = np.where(body.is_second[:, None], COLORS[item.second_color], color)
    return color, np.broadcast_to(partner, color.shape), pattern


def pack(scenes: Sequence[Scene]) -> PackedScenes:
    """Arrange, scale and paint scenes; one row of the result is one primitive."""
    rows: list[tuple[ndarray, ...]] = []
    start = [0]
    for scene in scenes:
        total = start[-1]
        for placed in _fit(*_arrange(scene)):
            body = solid(placed.item.object)
            color, partner, pattern = _paint(placed.item)
            center = placed.offset + placed.scale * body.center
            size, reach = placed.scale * body.size, placed.scale * body.reach
            anchor = np.broadcast_to(placed.offset, center.shape)
            geometry = (body.shape, center, body.to_local, size, body.ratio, reach)
            rows.append((*geometry, color, partner, pattern, anchor))
            total += len(body.shape)
        start.append(total)
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    whole = [
        column.astype(np.int32 if column.dtype.kind == "i" else np.float32) for column in columns
    ]
    return PackedScenes(np.array(start, np.int32), *whole)
