"""Cuboids in units of any kind, and how they become the boxes of a layout.

Axes are those of the world (z up, fronts towards +x, left is -y); units and origin are not. With
the middle m of the bounding box of all cuboids and the distance r of its farthest corner from m,

    x_layout = REACH (x - m) / r

so only the arrangement counts, not whether it was given in centimetres or in parts of a cube.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dreamlab.core.errors import InputError
from dreamlab.core.layout import MAX_BOXES, Box, Layout

REACH = 0.95
"""Distance of the farthest corner from the origin, world units."""
DIGITS = 3
"""Of the numbers in a layout."""
LARGEST = 1e6
"""Of the numbers that are read, in units of any kind."""


@dataclass(frozen=True)
class Block:
    """A prompt in a cuboid whose edges are along the axes; numbers by axis x, y, z."""

    prompt: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def moved(self, offset: Sequence[float]) -> "Block":
        """Return the same cuboid elsewhere."""
        x, y, z = offset
        (a, b, c), (d, e, f) = self.low, self.high
        return replace(self, low=(a + x, b + y, c + z), high=(d + x, e + y, f + z))


def bounds(blocks: Sequence[Block]) -> tuple[list[float], list[float]]:
    """Return the lowest and the highest corner of all blocks."""
    low = [min(block.low[axis] for block in blocks) for axis in range(3)]
    high = [max(block.high[axis] for block in blocks) for axis in range(3)]
    return low, high


def arrange(blocks: Sequence[Block], prompt: str | None, where: str) -> Layout:
    """Centre the blocks and scale them to `REACH`.

    Args:
        blocks: with positive edges.
        prompt: of the scene as a whole; none: that of the run.
        where: names them in messages.

    Raises:
        InputError: there are none or too many, one is too thin, or a prompt is none.
    """
    if not 1 <= len(blocks) <= MAX_BOXES:
        raise InputError(
            f"{where} names {len(blocks)} things, and a layout has 1 to {MAX_BOXES}.",
            "name fewer." if blocks else "name some.",
        )
    low, high = bounds(blocks)
    middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
    scale = REACH / max(_reach(block, middle) for block in blocks)
    try:
        return Layout(tuple(_box(block, middle, scale) for block in blocks), prompt)
    except ValueError as error:
        raise InputError(f"{where}: {error}.", "change it.") from None


def _box(block: Block, middle: Sequence[float], scale: float) -> Box:
    ends = list(zip(block.low, block.high, middle, strict=True))
    x, y, z = (round(scale * ((a + b) / 2 - m), DIGITS) + 0.0 for a, b, m in ends)
    length, width, height = (round(scale * (b - a), DIGITS) for a, b, _ in ends)
    return Box(block.prompt, (x, y, z), (length, width, height))


def _reach(block: Block, middle: Sequence[float]) -> float:
    """Return the distance of a block's farthest corner from a point."""
    ends = zip(block.low, block.high, middle, strict=True)
    return math.hypot(*(max(abs(a - m), abs(b - m)) for a, b, m in ends))


def read_numbers(
    values: Any, count: int, where: str, *, low: float = -LARGEST, high: float = LARGEST
) -> tuple[float, ...]:
    """Return a list of numbers from a file; `where` names it in messages.

    Raises:
        InputError: it is no list of `count` finite numbers from `low` to `high`.
    """
    if not isinstance(values, list | tuple) or len(values) != count:
        raise InputError(f"{where} must be a list of {count} numbers.", "change it.")
    for value in values:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise InputError(
                f"{where} has {value!r:.40}, allowed are numbers from {low:g} to {high:g}.",
                "change it.",
            )
    return tuple(float(value) for value in values)


def block_at(prompt: Any, low: Sequence[float], size: Sequence[float], where: str) -> Block:
    """Return the block with this lowest corner and these edges.

    Raises:
        InputError: an edge is not positive, or the prompt is no text.
    """
    if not isinstance(prompt, str):
        raise InputError(f"the prompt of {where} must be text.", "write it in quotes.")
    if min(size) <= 0:
        raise InputError(
            f"the edges of {where} must be positive, got {list(size)}.", "change them."
        )
    (a, b, c), (d, e, f) = low, size
    return Block(prompt, (a, b, c), (a + d, b + e, c + f))
