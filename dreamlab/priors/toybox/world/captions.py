"""The language of the toybox world: captions of scenes, and the way back.

    phrase  = item | count item | item relation item
    item    = [article] [size] [pattern] color ["and" color] noun
            | [article] [size] color ["and" color] pattern noun
            | [article] [size] color noun "with" [color] ("stripes" | "checks" | "dots")
    caption = phrase | phrase ", front view" | "front view of" phrase | "a photo of" phrase | ...

The colour may be left out where it is the object's natural one. `parse_prompt` inverts all of this.
"""

import difflib
import functools
import re

import numpy as np

from dreamlab.core.errors import InputError
from dreamlab.priors.toybox.world.objects.catalogue import CATALOGUE
from dreamlab.priors.toybox.world.objects.parts import ObjectKind
from dreamlab.priors.toybox.world.palette import COLORS, PATTERNS
from dreamlab.priors.toybox.world.scenes import SIZES, Item, Relation, Scene
from dreamlab.priors.toybox.world.views import VIEW_WORDS

ARTICLES = ("a", "an", "the")
COUNT_WORDS = {"two": 2, "three": 3}
PREFIXES = ("a photo of", "a 3d render of", "a picture of")
RELATION_PHRASES: dict[str, Relation] = {
    "on top of": "on top of",
    "next to": "next to",
    "in front of": "in front of",
    "on": "on top of",
    "beside": "next to",
}
"""What captions say for a relation; the first of each is canonical."""
PATTERN_NOUNS = {"striped": "stripes", "checkered": "checks", "dotted": "dots"}

_NUMBER_WORDS = {number: word for word, number in COUNT_WORDS.items()}
_PATTERN_OF_NOUN = {noun: pattern for pattern, noun in PATTERN_NOUNS.items()}
_VIEW = re.compile(rf"\b({'|'.join(VIEW_WORDS)}) view( of)?\b")
_PREFIX = re.compile(rf"\b({'|'.join(PREFIXES)})\b")
_RELATION = re.compile(rf"\b({'|'.join(RELATION_PHRASES)})\b")


def prompt_of(scene: Scene) -> str:
    """Return the canonical phrase of a scene, such as "a small striped red and white mug"."""
    if scene.relation is not None:
        first, second = (_item_phrase(item) for item in scene.items)
        return f"{first} {scene.relation} {second}"
    return _item_phrase(scene.items[0], scene.count)


def caption(scene: Scene, view_word: str | None, rng: np.random.Generator) -> str:
    """Phrase a scene in one of several ways.

    Args:
        scene: what is seen.
        view_word: from where (`views.view_word`), or None to leave it unsaid.
        rng: chooses the phrasing.
    """
    if scene.relation is not None:
        said = [phrase for phrase, r in RELATION_PHRASES.items() if r == scene.relation]
        relation = said[-1] if rng.random() < 0.2 else said[0]
        first, second = (_item_phrase(item, rng=rng) for item in scene.items)
        phrase = f"{first} {relation} {second}"
    else:
        phrase = _item_phrase(scene.items[0], scene.count, rng)
        if scene.count == 1 and rng.random() < 0.15:
            phrase = phrase.split(" ", 1)[1]  # without the article
    prefix = PREFIXES[rng.integers(len(PREFIXES))] + " " if rng.random() < 0.3 else ""
    if view_word is None:
        return prefix + phrase
    if view_word not in VIEW_WORDS:
        raise InputError(
            f"There is no view {view_word!r}.", f"Use one of: {', '.join(VIEW_WORDS)}."
        )
    if rng.random() < 0.2:
        return f"{view_word} view of {phrase}"
    return f"{prefix}{phrase}, {view_word} view"


def _item_phrase(item: Item, count: int = 1, rng: np.random.Generator | None = None) -> str:
    """Phrase an item: canonically without `rng`, else in one of its ways."""
    kind = item.kind
    chance = 1.0 if rng is None else rng.random()
    names = _plurals(kind) if count > 1 else _singulars(kind)
    noun = names[0]
    if rng is not None and len(names) > 1 and rng.random() < 0.15:
        noun = names[rng.integers(1, len(names))]
    colors = f"{item.color} and {item.second_color}" if item.second_color else item.color
    if item.pattern != "plain":
        if chance < 0.15:
            partner = [item.second_color] if item.second_color else []
            tail = ["with", *partner, PATTERN_NOUNS[item.pattern]]
            words = [item.color, noun, *tail]
        elif chance < 0.35:
            words = [colors, item.pattern, noun]
        else:
            words = [item.pattern, colors, noun]
    elif item.color == kind.natural and item.second_color is None and chance < 0.25:
        words = [noun]
    else:
        words = [colors, noun]
    if item.size is not None:
        words.insert(0, item.size)
    text = " ".join(words)
    if count > 1:
        return f"{_NUMBER_WORDS[count]} {text}"
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def parse_prompt(text: str) -> Scene:
    """Return the scene that an in-world prompt means; view words and prefixes are ignored.

    Raises:
        InputError: a word is not in the vocabulary, or the words do not form a phrase.
    """
    unknown = unknown_words(text)
    if unknown:
        hints = [
            f"{word!r} (known: {', '.join(near)})" if near else f"{word!r}"
            for word, near in unknown.items()
        ]
        raise InputError(
            f"The toybox world does not know {', '.join(hints)}.",
            "Use its words, as in: a red mushroom, a pink cake on a white table.",
        )
    plain = _PREFIX.sub(" ", _VIEW.sub(" ", " ".join(_words(text))))
    said = _RELATION.split(plain)
    if len(said) > 3:
        raise InputError(f"{text!r} relates more than two objects.", "Name one or two objects.")
    parsed = [_parse_item(phrase.split(), text) for phrase in said[::2]]
    if len(parsed) == 1:
        item, count = parsed[0]
        return Scene((item,), count=count)
    if any(count > 1 for _, count in parsed):
        raise InputError(
            f"{text!r} counts the objects of a relation.",
            "Relate single objects: a ... next to a ...",
        )
    return Scene((parsed[0][0], parsed[1][0]), RELATION_PHRASES[said[1]])


def _parse_item(words: list[str], text: str) -> tuple[Item, int]:
    """Read one item phrase, already without prefixes and view words."""
    count = 1
    while words and (words[0] in ARTICLES or words[0] in COUNT_WORDS):
        count = COUNT_WORDS.get(words[0], count)
        words = words[1:]
    words, tail = _split(words, "with")
    kind, adjectives = _take_noun(words, text)
    found: dict[str, list[str]] = {"size": [], "pattern": [], "colour": []}
    for word in adjectives + tail:
        if word in COLORS:
            found["colour"].append(word)
        elif word in PATTERNS or word in _PATTERN_OF_NOUN:
            found["pattern"].append(_PATTERN_OF_NOUN.get(word, word))
        elif word in SIZES:
            found["size"].append(word)
        elif word != "and":
            raise InputError(
                f"{word!r} has no place in {text!r}.",
                "Phrase it as: a [size] [pattern] [color] [and color] object.",
            )
    for what, limit in (("size", 1), ("pattern", 1), ("colour", 2)):
        if len(found[what]) > limit:
            raise InputError(
                f"The {kind.name} in {text!r} has more than {limit} {what}: "
                f"{', '.join(found[what])}.",
                f"Name at most {limit}.",
            )
    color, second_color = (*found["colour"], None, None)[:2]
    if color is None:
        if kind.natural is None:
            raise InputError(
                f"The {kind.name} in {text!r} has no colour.", f"Say: a red {kind.name}."
            )
        color = kind.natural
    pattern = found["pattern"][0] if found["pattern"] else "plain"
    size = SIZES[SIZES.index(found["size"][0])] if found["size"] else None
    return Item(kind.name, color, pattern, second_color, size), count


def _take_noun(words: list[str], text: str) -> tuple[ObjectKind, list[str]]:
    """Split off the longest noun at the end of the words."""
    for begin in range(len(words)):
        kind = _nouns().get(" ".join(words[begin:]))
        if kind is not None:
            return kind, words[:begin]
    raise InputError(
        f"No object of the toybox world in {' '.join(words) or text!r}.",
        "End the phrase with an object, such as: a red mushroom.",
    )


def _split(words: list[str], at: str) -> tuple[list[str], list[str]]:
    if at not in words:
        return words, []
    index = words.index(at)
    return words[:index], words[index + 1 :]


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _singulars(kind: ObjectKind) -> tuple[str, ...]:
    return (kind.name, *kind.aliases)


def _plurals(kind: ObjectKind) -> tuple[str, ...]:
    return (kind.plural_name, *(_plural(alias) for alias in kind.aliases))


def _plural(noun: str) -> str:
    if noun.endswith(("x", "ch")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("ny") else noun + "s"


@functools.cache
def _nouns() -> dict[str, ObjectKind]:
    return {noun: kind for kind in CATALOGUE for noun in _singulars(kind) + _plurals(kind)}


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """All words that captions can contain, sorted, without punctuation."""
    grammar = (*ARTICLES, *COUNT_WORDS, *PREFIXES, *RELATION_PHRASES, *VIEW_WORDS, "view of")
    patterns = (*PATTERN_NOUNS, *PATTERN_NOUNS.values(), "and", "with")
    phrases = (*grammar, *patterns, *COLORS, *SIZES, *_nouns())
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))


def unknown_words(text: str) -> dict[str, list[str]]:
    """Map every word of `text` that no caption contains to its nearest known words."""
    known = set(vocabulary())
    return {
        word: difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.6)
        for word in _words(text)
        if word not in known
    }
