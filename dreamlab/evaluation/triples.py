"""The 8 prompts of ToyBench that tell of three objects: "a ... next to a ... in front of a ...".

Neither the prior nor the judge has seen three different things together, and the world arranges no
such scene: that they are three is all that is new. Every object has a colour that was trained on,
in one plain colour as was each of the two relations; no object stands in two prompts, and each of
the twelve colours is that of two objects.

"on top of" does not come second but after itself: what is next to something that is on top of a
third thing may be meant to stand on either.

`draw_triples` is the rule; `TRIPLES` is what it drew with `SEED`, frozen.
"""

from collections import Counter

import numpy as np

from dreamlab.priors.toybox.world.captions import prompt_of
from dreamlab.priors.toybox.world.objects.catalogue import CATALOGUE
from dreamlab.priors.toybox.world.palette import COLORS
from dreamlab.priors.toybox.world.scenes import (
    SUPPORTS,
    Item,
    Relation,
    Scene,
    is_held_out_item,
    is_held_out_relation,
)

SEED = 3
ORDER: tuple[tuple[Relation, Relation], ...] = (
    ("next to", "next to"),
    ("on top of", "next to"),
    ("in front of", "next to"),
    ("on top of", "on top of"),
    ("next to", "in front of"),
    ("on top of", "in front of"),
    ("in front of", "in front of"),
    ("on top of", "next to"),
)
"""The relations of the prompts: of the first object to the second, of that to the third."""
COLOR_QUOTA = 3 * len(ORDER) // len(COLORS)
"""How many objects have each colour."""

TRIPLES: tuple[str, ...] = (
    "a yellow half sphere next to a green gift box next to a red windmill",
    "a black snowman on top of a yellow bus next to a red candle",
    "a cyan crown in front of a brown elephant next to a blue umbrella",
    "a black burger on top of a pink turtle on top of a white table",
    "a grey pine tree next to a green cactus in front of a purple flower",
    "a purple ice cream on top of a cyan chair in front of a grey triangular prism",
    "an orange rounded cube in front of a white bottle in front of a brown pig",
    "a pink ghost on top of an orange sofa next to a blue bear",
)


def draw_triples(seed: int) -> tuple[str, ...]:
    """Draw prompts by the rule of the module docstring.

    Objects and colours are drawn one by one; where nothing is left to draw, all begins anew.
    """
    rng = np.random.default_rng(seed)
    while True:
        names = [CATALOGUE[place].name for place in rng.permutation(len(CATALOGUE))]
        colors = Counter(dict.fromkeys(COLORS, COLOR_QUOTA))
        drawn = [_draw(rng, relations, names, colors) for relations in ORDER]
        if all(drawn):
            return tuple(drawn)


def _draw(
    rng: np.random.Generator,
    relations: tuple[Relation, Relation],
    names: list[str],
    colors: Counter[str],
) -> str:
    """Return a prompt of the first objects that fit, and take them away; empty if none do."""
    chosen: list[Item] = []
    for relation in (None, *relations):
        item = _fitting(rng, relation, chosen, names, colors)
        if item is None:
            return ""
        chosen.append(item)
        names.remove(item.object)
        colors[item.color] -= 1
    phrases = [prompt_of(Scene((item,))) for item in chosen]
    first, second = relations
    return f"{phrases[0]} {first} {phrases[1]} {second} {phrases[2]}"


def _fitting(
    rng: np.random.Generator,
    relation: Relation | None,
    before: list[Item],
    names: list[str],
    colors: Counter[str],
) -> Item | None:
    """Find an object for what stands before it, in a colour of its own; None if there is none."""
    used = {item.color for item in before}
    left = [name for name in COLORS if colors[name] and name not in used]
    for name in names:
        if relation == "on top of" and name not in SUPPORTS:
            continue
        if relation is not None and is_held_out_relation(before[-1].object, relation, name):
            continue
        for place in rng.permutation(len(left)):
            if not is_held_out_item(left[place], name):
                return Item(name, left[place])
    return None
