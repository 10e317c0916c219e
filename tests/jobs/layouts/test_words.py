"""Claims about layouts read from words."""

import math

import pytest

from dreamlab.core.errors import InputError
from dreamlab.core.layout import Box
from dreamlab.jobs.layouts.words import RELATIONS, layout_of, singular

AXES = {"x": 0, "y": 1, "z": 2}


def low(box: Box, axis: str) -> float:
    return box.center[AXES[axis]] - box.size[AXES[axis]] / 2


def high(box: Box, axis: str) -> float:
    return box.center[AXES[axis]] + box.size[AXES[axis]] / 2


CASES = {
    "a cat on top of a table": "z>",
    "a cat on a table": "z>",
    "a lamp above two tables": "z>",
    "a ball under a chair": "z<",
    "a ball beneath the chair": "z<",
    "a ball underneath a chair": "z<",
    "a mushroom next to a car": "y<",
    "red mushroom beside blue car": "y<",
    "a dog to the left of a house": "y<",
    "a dog to the right of a house": "y>",
    "a dog in front of a house": "x>",
    "a dog behind a house": "x<",
    "a dog and a cat": "y<",
    "a dog, a cat": "y<",
    "a dog, and a cat": "y<",
    "A Dog Next To A Cat.": "y<",
}


@pytest.mark.parametrize("prompt", CASES)
def test_things_stand_as_the_words_say_and_do_not_overlap(prompt: str):
    axis, side = CASES[prompt]
    first, *rest = layout_of(prompt).boxes
    for other in rest:
        if side == ">":
            assert low(first, axis) >= high(other, axis) - 2e-3
        else:
            assert high(first, axis) <= low(other, axis) + 2e-3


@pytest.mark.parametrize("phrase", RELATIONS)
def test_every_relation_separates_what_it_relates(phrase: str):
    boxes = layout_of(f"a red cube {phrase} a blue cube").boxes
    assert [box.prompt for box in boxes] == ["a red cube", "a blue cube"]


@pytest.mark.parametrize(
    ("prompt", "things"),
    [
        ("a red and white mug", ["a red and white mug"]),
        ("three red balls", ["a red ball"] * 3),
        ("two orange boxes next to an owl", ["an orange box"] * 2 + ["an owl"]),
        ("a cat with a hat", ["a cat with a hat"]),
        ("a black and white cat and a dog", ["a black and white cat", "a dog"]),
        ("a cat on a mat, two mice and a dog", ["a cat", "a mat", "a mouse", "a mouse", "a dog"]),
    ],
)
def test_what_is_one_thing_stays_one_and_counts_are_counted(prompt: str, things: list[str]):
    found = layout_of(prompt)
    assert [box.prompt for box in found.boxes] == things
    assert found.prompt == prompt


@pytest.mark.parametrize("prompt", [*CASES, "six cubes", "a huge cat and a tiny dog and a bird"])
def test_arrangements_are_centred_and_fill_the_same_ball(prompt: str):
    boxes = layout_of(prompt).boxes
    corners = [corner for box in boxes for corner in box.corners()]
    assert max(math.hypot(*corner) for corner in corners) == pytest.approx(0.95, abs=5e-3)
    for axis in range(3):
        ends = [corner[axis] for corner in corners]
        assert min(ends) == pytest.approx(-max(ends), abs=5e-3)


def test_things_stand_on_one_ground_unless_they_are_above_or_below():
    first, second, third = layout_of("a big cat next to a small dog and a bird").boxes
    assert low(first, "z") == pytest.approx(low(second, "z"), abs=2e-3)
    assert low(first, "z") == pytest.approx(low(third, "z"), abs=2e-3)
    assert first.size[0] > third.size[0] > second.size[0]


@pytest.mark.parametrize("prompt", ["", "on top of a table", "a cat next to"])
def test_a_relation_without_two_sides_is_refused(prompt: str):
    if prompt == "a cat next to":  # no article follows: it is taken for words of the thing
        assert len(layout_of(prompt).boxes) == 1
        return
    with pytest.raises(InputError, match="relates nothing to something"):
        layout_of(prompt)


def test_too_many_things_are_refused():
    with pytest.raises(InputError, match="names 18 things, and a layout has 1 to 12"):
        layout_of("six cats and six dogs and six birds")


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("balls", "ball"),
        ("boxes", "box"),
        ("benches", "bench"),
        ("ponies", "pony"),
        ("mice", "mouse"),
        ("buses", "bus"),
        ("houses", "house"),
        ("glasses", "glass"),
        ("sheep", "sheep"),
        ("grass", "grass"),
    ],
)
def test_singulars(plural: str, one: str):
    assert singular(plural) == one
