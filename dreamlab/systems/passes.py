"""Which objects of a layout a step shows, and how the cameras look at them.

Steps come in rounds: `alone` steps of each object by itself, `pairs` steps of each pair of objects,
`scene` steps of all together, in this order, again and again. What a step shows is a function of
its number, so resumed runs repeat it.

An object by itself is seen in its own frame: cameras orbit its box as they would orbit the origin,
azimuth 0 before its front, distances scaled so that the box's corners lie at `framing` from its
centre in place of the box's radius. Pairs are seen from where the scene would be, looking at the
middle of the two centres.

Source: SemanticSDS (Yang et al. 2024), section 3.4 and its code: 6 steps of each object, one of
each pair, one of the scene; LucidDreaming (Wang et al. 2023): cameras centred on a box.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.layout import Layout
from dreamlab.core.regions import turned
from dreamlab.guidance.semantic import num_prompts


@dataclass(frozen=True, slots=True)
class PassConfig:
    """What the steps of a round show, where there is a layout."""

    alone: int = 0
    """Steps of a round that show an object by itself, for each of them."""
    pairs: int = 0
    """Steps of a round that show two objects, for each pair."""
    scene: int = 1
    """Steps of a round that show everything."""
    framing: float = 0.85
    """How large a box is in views of its object alone: distance of its corners, world units."""

    def __post_init__(self) -> None:
        counts = (self.alone, self.pairs, self.scene)
        if min(counts) < 0 or sum(counts) == 0:
            raise ValueError(
                f"alone, pairs and scene must be >= 0, and one of them positive, got {counts}"
            )
        if self.framing <= 0:
            raise ValueError(f"framing must be positive, got {self.framing}")

    def round(self, num_objects: int) -> list[tuple[int, ...]]:
        """Return the objects that each step of a round shows."""
        everything = tuple(range(num_objects))
        steps = [(k,) for k in everything for _ in range(self.alone)]
        if num_objects > 2:  # two objects are the scene
            pairs = combinations(everything, 2)
            steps += [pair for pair in pairs for _ in range(self.pairs)]
        return steps + [everything] * self.scene or [everything]

    def most_prompts(self, num_objects: int) -> int:
        """Return how many prompts share a view at most, in any step of a round."""
        return max(num_prompts(len(shown), num_objects) for shown in self.round(num_objects))

    def shown_at(self, step: int, num_objects: int) -> tuple[int, ...]:
        """Return the objects that a step shows, rising."""
        steps = self.round(num_objects)
        return steps[step % len(steps)]


def look_at_shown(
    cameras: Cameras, layout: Layout, shown: Sequence[int], framing: float
) -> Cameras:
    """Return cameras that were drawn for the whole, moved to what is shown of it."""
    boxes = [layout.boxes[k] for k in shown]
    if len(boxes) == len(layout):
        return cameras
    middle = torch.tensor([box.center for box in boxes]).mean(dim=0)
    if len(boxes) > 1:
        return moved(cameras, middle, turn=0.0, scale=1.0)
    return moved(cameras, middle, turn=boxes[0].facing, scale=boxes[0].radius / framing)


def moved(cameras: Cameras, center: Tensor, *, turn: float, scale: float) -> Cameras:
    """Turn cameras about the z axis (degrees), scale their places, and move them by `center`.

    Azimuth and elevation stay what they are about the new centre and front.
    """
    matrix = cameras.camera_to_world.clone()
    columns = matrix[:, :3].transpose(1, 2)
    columns = turned(columns, columns.new_tensor(turn))
    columns = torch.cat([columns[:, :3], scale * columns[:, 3:] + center.to(columns)], dim=1)
    matrix[:, :3] = columns.transpose(1, 2)
    return replace(cameras, camera_to_world=matrix, distance=scale * cameras.distance)
