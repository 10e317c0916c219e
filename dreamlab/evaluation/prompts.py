"""The prompts of ToyBench: 24 pairs, one seen in the prior's training, one held out, and 8 triples.

Both prompts of a pair show the same objects, so that a pair differs in nothing but whether its
combination was trained on:

- single objects (20 pairs): the same object in another colour, one of those withheld for it;
- relations (4 pairs): the same two painted objects in another relation, one withheld for them.

Of the single objects 8 have a front, 6 have none, and 6 (half of them with a front) have two
colours or a pattern. No object stands in two pairs. Within each half every one of the twelve
colours is the first one of a prompt twice. The pairs come in an order whose beginnings are balanced
too, the seen prompt of a pair first.

`draw_pairs` is the rule; `PAIRS` is what it drew with `SEED`, frozen, so that results stay
comparable when the world grows. Prompts of three objects stand behind the 48: see `triples`.
"""

import functools
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dreamlab.core.mesh import Mesh, joined
from dreamlab.core.regions import Regions
from dreamlab.evaluation.triples import TRIPLES
from dreamlab.jobs.layouts.words import layout_of
from dreamlab.priors.toybox.world.captions import parse_prompt, prompt_of
from dreamlab.priors.toybox.world.objects.catalogue import CATALOGUE
from dreamlab.priors.toybox.world.objects.parts import ObjectKind
from dreamlab.priors.toybox.world.palette import COLORS, PATTERNS
from dreamlab.priors.toybox.world.scenes import (
    RELATIONS,
    SUPPORTS,
    Item,
    Relation,
    Scene,
    is_held_out,
)
from dreamlab.priors.toybox.world.truth import true_mesh

Kind = Literal["front", "no front", "painted", "relation"]

_RELATION = re.compile(f" (?:{'|'.join(RELATIONS)}) ")
SEED = 48
_HALF: tuple[Kind, ...] = (
    *("front", "no front", "painted", "front", "relation", "no front"),
    *("front", "painted", "no front", "front", "painted", "relation"),
)
ORDER: tuple[Kind, ...] = _HALF * 2
"""The kinds of the 24 pairs."""
COLOR_QUOTA = len(ORDER) // len(COLORS)
"""How often each colour comes first, among the seen and among the held-out prompts."""

PAIRS: tuple[tuple[str, str], ...] = (
    ("an orange flower", "a grey flower"),
    ("a yellow truncated cone", "a pink truncated cone"),
    ("a white and red bus", "a cyan and red bus"),
    ("a purple television", "a white television"),
    (
        "a grey half sphere next to a pink hexagonal prism",
        "a grey half sphere on top of a pink hexagonal prism",
    ),
    ("a green mug", "a cyan mug"),
    ("a cyan clock", "a green clock"),
    ("a striped orange and cyan ellipsoid", "a striped black and cyan ellipsoid"),
    ("a white boat", "a yellow boat"),
    ("a blue elephant", "a white elephant"),
    ("a checkered green and pink pig", "a checkered orange and pink pig"),
    ("a yellow mushroom in front of a white bottle", "a yellow mushroom next to a white bottle"),
    ("a grey ghost", "a black ghost"),
    ("a black candle", "a green candle"),
    ("a dotted black and purple trophy", "a dotted blue and purple trophy"),
    ("a blue airplane", "an orange airplane"),
    ("a red cat on top of a black table", "a red cat in front of a black table"),
    ("a pink ice cream", "a blue ice cream"),
    ("a cyan snowman", "a brown snowman"),
    ("a red and yellow bear", "a pink and yellow bear"),
    ("a pink lamp", "a purple lamp"),
    ("a brown car", "a purple car"),
    ("a striped purple and pink hat", "a striped red and pink hat"),
    ("a brown cake next to a red rounded cube", "a brown cake on top of a red rounded cube"),
)
"""(seen, held out)"""


@dataclass(frozen=True)
class BenchPrompt:
    """A prompt and what it means."""

    text: str
    held_out: bool
    """Whether the prior was never trained on it."""
    scenes: tuple[Scene, ...]
    """One; or each of three objects by itself, since the world has no scenes of three."""

    @property
    def has_janus_answer(self) -> bool:
        """Whether front and back can be told: one object, with a front."""
        first, *others = self.scenes
        return not others and first.relation is None and first.has_front

    @property
    def objects(self) -> tuple[str, ...]:
        """What it names, each by itself: "a red cat", "a black table"."""
        return tuple(
            prompt_of(Scene((item,)))
            for scene in self.scenes
            for item in scene.items
            for _ in range(scene.count)
        )

    def truth(self, resolution: int = 128) -> Mesh:
        """Return the true mesh; of three objects each fills the box that the words give it.

        Args:
            resolution: of the grid for each scene, see `true_mesh`.
        """
        if len(self.scenes) == 1:
            return true_mesh(self.scenes[0], resolution)
        frames = Regions.of(layout_of(self.text)).frames()
        return joined(
            [
                frame.place(true_mesh(scene, resolution))
                for frame, scene in zip(frames, self.scenes, strict=True)
            ]
        )


@functools.cache
def bench_prompts() -> tuple[BenchPrompt, ...]:
    """Return the 48 prompts; the even ones are seen, the odd ones held out."""
    return tuple(
        BenchPrompt(text, held_out, (parse_prompt(text),))
        for pair in PAIRS
        for text, held_out in zip(pair, (False, True), strict=True)
    )


@functools.cache
def all_prompts() -> tuple[BenchPrompt, ...]:
    """Return the 48 prompts, then those of three objects, all of which are held out."""
    phrases = (_RELATION.split(text) for text in TRIPLES)
    triples = (
        BenchPrompt(text, True, tuple(parse_prompt(phrase) for phrase in three))
        for text, three in zip(TRIPLES, phrases, strict=True)
    )
    return (*bench_prompts(), *triples)


def draw_pairs(seed: int) -> tuple[tuple[str, str], ...]:
    """Draw pairs by the rule of the module docstring.

    Pairs are drawn one by one; where the quotas of colours leave nothing to draw, all begins anew.
    """
    rng = np.random.default_rng(seed)
    while True:
        pairs = _try_to_draw(rng)
        if pairs is not None:
            return tuple((prompt_of(seen), prompt_of(withheld)) for seen, withheld in pairs)


class _Quotas:
    """Objects and colours that may still be drawn."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.kinds = [CATALOGUE[i] for i in rng.permutation(len(CATALOGUE))]
        self.colors: dict[bool, Counter[str]] = {
            held_out: Counter(dict.fromkeys(COLORS, COLOR_QUOTA)) for held_out in (False, True)
        }

    def shuffled_colors(self, *, left_in: tuple[bool, ...]) -> list[str]:
        names = list(COLORS)
        shuffled = [names[i] for i in self.rng.permutation(len(names))]
        return [name for name in shuffled if all(self.colors[half][name] > 0 for half in left_in)]

    def take(self, seen: Scene, withheld: Scene) -> tuple[Scene, Scene]:
        self.colors[False][seen.items[0].color] -= 1
        self.colors[True][withheld.items[0].color] -= 1
        used = {item.object for item in seen.items}
        self.kinds = [kind for kind in self.kinds if kind.name not in used]
        return seen, withheld


def _try_to_draw(rng: np.random.Generator) -> list[tuple[Scene, Scene]] | None:
    quotas = _Quotas(rng)
    pairs: list[tuple[Scene, Scene]] = []
    for place, kind in enumerate(ORDER):
        number = ORDER[:place].count(kind)
        pair = _relation(quotas, number) if kind == "relation" else _single(quotas, kind, number)
        if pair is None:
            return None
        pairs.append(quotas.take(*pair))
    return pairs


def _single(quotas: _Quotas, kind: Kind, number: int) -> tuple[Scene, Scene] | None:
    """Find an object with a seen and a withheld colour that are both left.

    Painted objects take turns: with and without a front; two colours, striped, checkered, dotted.
    """
    has_front = number % 2 == 0 if kind == "painted" else kind == "front"
    pattern = PATTERNS[number % len(PATTERNS)] if kind == "painted" else "plain"
    for candidate in quotas.kinds:
        if candidate.has_front != has_front:
            continue
        second = str(quotas.rng.choice(list(COLORS))) if kind == "painted" else None
        if second is not None and pattern == "plain" and not candidate.is_two_colored:
            continue
        seen, withheld = (
            _colored(quotas, candidate.name, pattern, second, held_out)
            for held_out in (False, True)
        )
        if seen is not None and withheld is not None:
            return seen, withheld
    return None


def _colored(
    quotas: _Quotas, name: str, pattern: str, second: str | None, held_out: bool
) -> Scene | None:
    """Paint an object in a colour that is left and withheld, or not, as asked."""
    for color in quotas.shuffled_colors(left_in=(held_out,)):
        if color != second:
            scene = Scene((Item(name, color, pattern, second),))
            if is_held_out(scene) == held_out:
                return scene
    return None


def _relation(quotas: _Quotas, number: int) -> tuple[Scene, Scene] | None:
    """Find two painted objects for which one relation is withheld and the one after it is not."""
    withheld: Relation = RELATIONS[number % 3]
    seen: Relation = RELATIONS[(number + 1) % 3]
    for first, second in _couples(quotas.kinds, needs_support="on top of" in (seen, withheld)):
        for color in quotas.shuffled_colors(left_in=(False, True)):
            others = [name for name in COLORS if name != color]
            other = others[quotas.rng.integers(len(others))]
            scene = Scene((Item(first.name, color), Item(second.name, other)), seen)
            counterpart = replace(scene, relation=withheld)
            if not is_held_out(scene) and is_held_out(counterpart):
                return scene, counterpart
    return None


def _couples(
    kinds: list[ObjectKind], *, needs_support: bool
) -> list[tuple[ObjectKind, ObjectKind]]:
    supports = [kind for kind in kinds if kind.name in SUPPORTS or not needs_support]
    return [(a, b) for b in supports for a in kinds if a is not b]
