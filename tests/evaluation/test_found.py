"""Objects are found by themselves, wherever they stand, and are not where they are not."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from shapes import BLUE, GREEN, RED, moved, sphere
from torch import Tensor

from dreamlab.core.mesh import Mesh, joined
from dreamlab.evaluation.found import best_of, objects_found, recognised, world_objects
from dreamlab.evaluation.measure import measure
from dreamlab.evaluation.prompts import all_prompts, bench_prompts
from dreamlab.evaluation.views import BACKGROUND
from dreamlab.jobs.layouts.words import layout_of
from dreamlab.priors.toybox.judge.network import load_judge
from dreamlab.priors.toybox.world.palette import COLORS

NAMES = ("a red sphere", "a green sphere")
ROW = layout_of(" next to ".join(NAMES))


class ColorJudge:
    """Takes every picture for a sphere in the color of what is in its middle."""

    def scores(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        middle = images[:, 28:36, 28:36].mean(dim=(1, 2))
        seen = (middle - torch.tensor(BACKGROUND)).abs().sum(dim=1) > 0.1
        columns: list[Tensor] = []
        for caption in captions:
            name = next(color for color in COLORS if f" {color} " in caption)
            hue = torch.nn.functional.normalize(torch.tensor(COLORS[name]) + 0.01, dim=0)
            fit = torch.nn.functional.normalize(middle, dim=1) @ hue
            columns.append(torch.where(seen & caption.endswith(" sphere"), fit, -1.0))
        return torch.stack(columns, dim=1)


def balls(*places: tuple[float, float, float]) -> Mesh:
    colors = (RED, GREEN, BLUE)
    return joined([moved(sphere(0.2, c), 1, at) for c, at in zip(colors, places, strict=False)])


def test_of_all_cuts_and_orders_the_best_mean_counts() -> None:
    shares = np.array([[0.9, 0.2], [0.1, 0.8], [0.6, 0.0], [1.0, 0.3]])
    assert best_of([(0, 1)], shares) == best_of([(1, 0)], shares) == (0.9, 0.8)
    assert best_of([(2, 3), (0, 2)], shares) == (1.0, 0.0)
    assert best_of([(2, 2)], np.zeros((3, 2))) == (0.0, 0.0)


def test_a_piece_is_taken_for_one_object_alone() -> None:
    shares = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.5], [0.0, 0.25, 0.0]])
    assert best_of([(0, 1, 2)], shares) == (1.0, 0.25, 0.5)


@pytest.mark.parametrize("green", [(0.0, 0.6, 0.0), (0.0, -0.6, 0.0), (-0.6, 0.0, 0.0)])
def test_objects_are_found_on_any_side(green: tuple[float, float, float]) -> None:
    mesh = balls((0.0, 0.0, 0.0), green)
    assert objects_found(mesh, NAMES, ROW, ColorJudge()) == (1.0, 1.0)


@pytest.mark.parametrize("other", ["a yellow sphere", "a green cube"])
def test_what_is_missing_or_has_another_color_is_not_found(other: str) -> None:
    mesh = balls((0.0, -0.6, 0.0), (0.0, 0.6, 0.0))
    red, missing = objects_found(mesh, ("a red sphere", other), ROW, ColorJudge())
    assert red == 1.0 and missing < 0.25


@pytest.mark.slow
def test_three_are_found_in_any_order() -> None:
    mesh = balls((0.0, 0.6, 0.0), (0.0, -0.6, 0.0), (0.0, 0.0, 0.0))
    names = (*NAMES, "a blue sphere")
    layout = layout_of(" next to ".join(names))
    assert objects_found(mesh, names, layout, ColorJudge()) == (1.0, 1.0, 1.0)


def test_pieces_are_seen_in_the_middle_and_as_large_as_single_objects() -> None:
    far = moved(sphere(0.1, RED), 1, (0.5, -0.7, 0.6))
    assert recognised([far], NAMES, ColorJudge()).tolist() == [[1.0, 0.0]]


def test_the_world_has_all_objects_in_all_colors() -> None:
    names = world_objects()
    assert len(names) == len(set(names)) == 62 * len(COLORS)


def test_the_judge_finds_true_objects_and_not_those_of_another_prompt() -> None:
    judge = load_judge()
    cat, cake = bench_prompts()[33], bench_prompts()[46]
    truth, layout = cat.truth(resolution=64), layout_of(cat.text)
    assert min(objects_found(truth, cat.objects, layout, judge)) > 0.8
    assert max(objects_found(truth, cake.objects, layout, judge)) < 0.2


@pytest.mark.slow
def test_of_three_true_objects_the_judge_finds_each() -> None:
    prompt, among = all_prompts()[51], [other.text for other in bench_prompts()]
    truth = prompt.truth()
    measures = measure(truth, truth, prompt, load_judge(), among)
    assert measures.found is not None and min(measures.found) > 0.9
    assert measures.r_precision is None and measures.facing is None


def test_one_object_is_looked_at_as_a_whole() -> None:
    flower, other = bench_prompts()[0], bench_prompts()[1]
    truth, judge = flower.truth(resolution=64), load_judge()
    (share,) = objects_found(truth, flower.objects, layout_of(flower.text), judge)
    (confused,) = objects_found(truth, other.objects, layout_of(other.text), judge)
    assert share > 0.9 and confused < 0.1
    assert share == recognised([truth], flower.objects, judge)[0, 0]


def test_a_pattern_is_asked_for_beside_all_plain_objects() -> None:
    striped = bench_prompts()[14]
    truth = striped.truth(resolution=64)
    (share,) = objects_found(truth, striped.objects, layout_of(striped.text), load_judge())
    assert striped.objects[0] not in world_objects() and share > 0.8
