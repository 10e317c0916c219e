"""From words to a layout, by rules: "a red mushroom on top of two blue cubes" becomes three boxes.

    scene = item (relation item)*
    item  = number things | [article] thing
    relation: on top of, on, above, under, next to, beside, left of, right of, in front of, behind,
              and, a comma

A relation places what follows it beside what stands before it: in "A under B next to C" B floats
above A, and C stands at B's side. "and" puts the next thing on the ground to the right of all
others. The one-word relations count only before an article or a number, so that "a red and white
mug" stays one thing. Left and right are those of somebody who sees the fronts: left is -y.

Boxes are cubes, smaller or larger for things called small or big; the arrangement is centred and
scaled until its farthest corner is `REACH` from the origin. It is a first guess to be edited.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dreamlab.core.errors import InputError
from dreamlab.core.layout import MAX_BOXES, Box, Layout

RELATIONS = {
    "on top of": "above",
    "above": "above",
    "on": "above",
    "underneath": "below",
    "beneath": "below",
    "below": "below",
    "under": "below",
    "next to": "left",
    "beside": "left",
    "to the left of": "left",
    "left of": "left",
    "to the right of": "right",
    "right of": "right",
    "in front of": "ahead",
    "behind": "behind",
    "and": "and",
}
"""Where the thing before the words is, seen from the thing after them."""
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
ARTICLES = ("a", "an", "the", "one", "another")
SIZES = {
    **dict.fromkeys(("tiny",), 0.4),
    **dict.fromkeys(("small", "little"), 0.6),
    **dict.fromkeys(("big", "large"), 1.35),
    **dict.fromkeys(("huge", "giant"), 1.6),
}
"""Edge of the box of a thing with this adjective; 1 without."""
GAP = 0.15
"""Between neighbours, in edges of a usual box."""
REACH = 0.95
"""Distance of the farthest corner from the origin, world units."""
DIGITS = 3
"""Of the numbers in a layout."""
IRREGULAR = {
    "mice": "mouse",
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "geese": "goose",
    "feet": "foot",
    "teeth": "tooth",
    "knives": "knife",
    "leaves": "leaf",
    "wolves": "wolf",
    "buses": "bus",
    "houses": "house",
    "horses": "horse",
    "vases": "vase",
    "roses": "rose",
}
"""Plurals that the rules of `singular` do not know."""

_BEFORE_THING = rf"(?=\s+(?:{'|'.join((*ARTICLES, *NUMBERS))})\b)"
_PHRASES = "|".join(phrase.replace(" ", r"\s+") for phrase in RELATIONS if " " in phrase)
_WORDS = "|".join(phrase for phrase in RELATIONS if " " not in phrase and phrase != "beside")
_RELATION = re.compile(
    rf"\s*(?:,\s*)?\b({_PHRASES}|beside|(?:{_WORDS}){_BEFORE_THING})\s+|\s*(,){_BEFORE_THING}\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Block:
    """A prompt in a cuboid whose edges are along the axes; numbers by axis x, y, z."""

    prompt: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def moved(self, offset: Sequence[float]) -> "_Block":
        x, y, z = offset
        (a, b, c), (d, e, f) = self.low, self.high
        return replace(self, low=(a + x, b + y, c + z), high=(d + x, e + y, f + z))


def layout_of(prompt: str) -> Layout:
    """Read a prompt by the rules of the module docstring.

    Raises:
        InputError: a relation has nothing on one of its sides, or there are too many things.
    """
    phrases, relations = _split(prompt)
    placed: list[_Block] = []
    before: list[_Block] = []
    for phrase, relation in zip(phrases, (None, *relations), strict=True):
        row = _row(phrase)
        if relation is not None:
            row = _beside(row, before, placed, relation)
        placed, before = placed + row, row
    if len(placed) > MAX_BOXES:
        raise InputError(
            f"{prompt!r} names {len(placed)} things, at most {MAX_BOXES} fit a layout.",
            "name fewer.",
        )
    return Layout(_fitted(placed), " ".join(prompt.split()))


def _split(prompt: str) -> tuple[list[str], list[str]]:
    """Return the phrases of things, and the relations between them."""
    phrases, relations, start = [], [], 0
    text = " ".join(prompt.split()).rstrip(" .,")
    for found in _RELATION.finditer(text):
        phrases.append(text[start : found.start()])
        said = " ".join((found[1] or "and").lower().split())
        relations.append(RELATIONS[said])
        start = found.end()
    phrases.append(text[start:])
    if not all(phrase.strip() for phrase in phrases):
        raise InputError(
            f"{prompt!r} relates nothing to something.",
            "name a thing on each side, as in: a red mushroom on top of a blue cube.",
        )
    return phrases, relations


def _row(phrase: str) -> list[_Block]:
    """Return the things of a phrase on the ground, side by side along y, as many as it counts."""
    words = phrase.split()
    count = NUMBERS.get(words[0].lower(), 1)
    if count > 1 and len(words) > 1:
        thing = " ".join([*words[1:-1], singular(words[-1])])
        phrase = f"{'an' if thing[0].lower() in 'aeiou' else 'a'} {thing}"
    edge = next((SIZES[word.lower()] for word in words if word.lower() in SIZES), 1.0)
    half = edge / 2
    block = _Block(phrase, (-half, -half, 0.0), (half, half, edge))
    step = edge * (1 + GAP)
    return [block.moved((0.0, (i - (count - 1) / 2) * step, 0.0)) for i in range(count)]


def singular(noun: str) -> str:
    """Return the singular of a plural noun, by rules that hold for most."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("xes", "ches", "shes", "sses", "zzes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun


def _beside(
    row: list[_Block], before: list[_Block], placed: list[_Block], relation: str
) -> list[_Block]:
    """Move a row to where it stands if what is `before` it has that relation to it."""
    low, high = _bounds(row)
    near, far = _bounds(placed if relation == "and" else before)
    middle = [(a + b - c - d) / 2 for a, b, c, d in zip(near, far, low, high, strict=True)]
    on_ground = [middle[0], middle[1], near[2] - low[2]]
    offset = {
        "above": [middle[0], middle[1], near[2] - high[2]],
        "below": [middle[0], middle[1], far[2] - low[2]],
        "left": [middle[0], far[1] + GAP - low[1], on_ground[2]],
        "right": [middle[0], near[1] - GAP - high[1], on_ground[2]],
        "ahead": [near[0] - GAP - high[0], middle[1], on_ground[2]],
        "behind": [far[0] + GAP - low[0], middle[1], on_ground[2]],
        "and": [0.0, far[1] + GAP - low[1], on_ground[2]],
    }[relation]
    return [block.moved(offset) for block in row]


def _bounds(blocks: Sequence[_Block]) -> tuple[list[float], list[float]]:
    low = [min(block.low[axis] for block in blocks) for axis in range(3)]
    high = [max(block.high[axis] for block in blocks) for axis in range(3)]
    return low, high


def _fitted(blocks: Sequence[_Block]) -> tuple[Box, ...]:
    """Centre the arrangement and scale it to its reach."""
    low, high = _bounds(blocks)
    middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
    scale = REACH / max(_reach(block, middle) for block in blocks)

    def box(block: _Block) -> Box:
        ends = list(zip(block.low, block.high, middle, strict=True))
        x, y, z = (round(scale * ((a + b) / 2 - m), DIGITS) + 0.0 for a, b, m in ends)
        length, width, height = (round(scale * (b - a), DIGITS) for a, b, _ in ends)
        return Box(block.prompt, (x, y, z), (length, width, height))

    return tuple(box(block) for block in blocks)


def _reach(block: _Block, middle: Sequence[float]) -> float:
    """Return the distance of a block's farthest corner from a point."""
    ends = zip(block.low, block.high, middle, strict=True)
    return math.hypot(*(max(abs(a - m), abs(b - m)) for a, b, m in ends))
