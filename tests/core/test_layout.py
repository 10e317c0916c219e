"""Claims about layouts: what cannot be built is refused and named."""

import math
from typing import Any

import pytest

from dreamlab.core.config import build
from dreamlab.core.errors import InputError
from dreamlab.core.layout import MAX_BOXES, Box, Layout

MUSHROOM = {"prompt": "a red mushroom", "center": [0, -0.4, 0], "size": [0.6, 0.6, 0.8]}
CAR = {
    "prompt": "a blue car",
    "center": [0, 0.4, -0.1],
    "size": [0.8, 0.6, 0.5],
    "yaw": 30,
    "front": 90,
    "views": {"back": "rear view"},
}
CONTENT: dict[str, Any] = {"prompt": "a mushroom next to a car", "boxes": [MUSHROOM, CAR]}


def test_corners_are_turned_about_the_middle():
    box = Box("a cube", (0.1, 0.2, 0.3), (0.4, 0.2, 0.6), yaw=90.0)
    low, high = ([f(c[i] for c in box.corners()) for i in range(3)] for f in (min, max))
    assert low == pytest.approx([0.0, 0.0, 0.0]) and high == pytest.approx([0.2, 0.4, 0.6])
    assert box.radius == pytest.approx(math.dist(box.corners()[0], box.center))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "  "}, "prompt of a box is empty"),
        ({"prompt": "a\ncar"}, "one line"),
        ({"size": [0.6, 0.0, 0.8]}, "sizes must be positive"),
        ({"size": [0.6, 0.6]}, r"layout.boxes\[0\].size must be a list of 3 values"),
        ({"center": [0, -0.8, 0]}, "lie in the cube"),
        ({"size": [1.9, 0.6, 0.8], "center": [0, 0, 0], "yaw": 45}, None),
        ({"size": [1.9, 1.9, 0.8], "center": [0, 0, 0], "yaw": 45}, "lie in the cube"),
        ({"center": [0, math.nan, 0]}, "finite number"),
        ({"yaw": math.inf}, "finite number"),
        ({"views": {"top": "from above"}}, "'top', allowed are front, side"),
        ({"views": {"back": ""}}, "words for the back view"),
        ({"yawn": 3}, "did you mean 'yaw'"),
    ],
)
def test_a_box_that_cannot_be_is_refused(change: dict[str, Any], message: str | None):
    content = CONTENT | {"boxes": [MUSHROOM | change]}
    if message is None:
        assert len(build(Layout, content, "layout")) == 1
        return
    with pytest.raises(InputError, match=message):
        build(Layout, content, "layout")


def test_overlaps_are_allowed_and_numbers_of_boxes_are_bounded():
    assert len(build(Layout, {"boxes": [MUSHROOM, MUSHROOM]})) == 2
    for boxes in ([], [MUSHROOM] * (MAX_BOXES + 1)):
        with pytest.raises(InputError, match=f"1 to {MAX_BOXES} objects"):
            build(Layout, {"boxes": boxes})
