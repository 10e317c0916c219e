"""From words to a layout, by rules: "a red mushroom on top of two blue cubes" becomes three boxes.

    scene = item (relation item)*
    item  = number things | [article] thing
    relation: on top of, on, above, under, next to, beside, left of, right of, in front of, behind,
              and, a comma

A relation places what follows it beside what stands before it: in "A under B next to C" B floats
above A, and C stands at B's side. "and" puts the next thing on the ground to the right of all
others. The one-word relations count only before an article or a number, so that "a red and white
mug" stays one thing. Left and right are those of somebody who sees the fronts: left is -y.

Boxes are cubes, smaller or larger for things called small or big; `blocks.arrange` centres and
scales them. It is a first guess to be edited.
"""

import re

from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.jobs.layouts.blocks import Block, arrange, bounds

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


def layout_of(prompt: str) -> Layout:
    """Read a prompt by the rules of the module docstring.

    Raises:
        InputError: a relation has nothing on one of its sides, or there are too many things.
    """
    phrases, relations = _split(prompt)
    placed: list[Block] = []
    before: list[Block] = []
    for phrase, relation in zip(phrases, (None, *relations), strict=True):
        row = _row(phrase)
        if relation is not None:
            row = _beside(row, before, placed, relation)
        placed, before = placed + row, row
    return arrange(placed, " ".join(prompt.split()), repr(prompt))


def layout_if_several(prompt: str) -> Layout | None:
    """Read a prompt that tells of several things; None if it does not, or not by these rules."""
    try:
        layout = layout_of(prompt)
    except InputError:
        return None
    return layout if len(layout) > 1 else None


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


def _row(phrase: str) -> list[Block]:
    """Return the things of a phrase on the ground, side by side along y, as many as it counts."""
    words = phrase.split()
    count = NUMBERS.get(words[0].lower(), 1)
    if count > 1 and len(words) > 1:
        thing = " ".join([*words[1:-1], singular(words[-1])])
        phrase = f"{'an' if thing[0].lower() in 'aeiou' else 'a'} {thing}"
    edge = next((SIZES[word.lower()] for word in words if word.lower() in SIZES), 1.0)
    half = edge / 2
    block = Block(phrase, (-half, -half, 0.0), (half, half, edge))
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
    row: list[Block], before: list[Block], placed: list[Block], relation: str
) -> list[Block]:
    """Move a row to where it stands if what is `before` it has that relation to it."""
    low, high = bounds(row)
    near, far = bounds(placed if relation == "and" else before)
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
