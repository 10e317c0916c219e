"""The prompts of ToyBench are what their documentation claims."""

from collections import Counter

import pytest

from dreamlab.evaluation.prompts import ORDER, PAIRS, SEED, bench_prompts, draw_pairs
from dreamlab.priors.toybox.world.palette import COLORS
from dreamlab.priors.toybox.world.scenes import is_held_out


def test_the_frozen_list_is_what_the_rule_draws() -> None:
    assert draw_pairs(SEED) == PAIRS


def test_half_of_the_48_different_prompts_are_held_out() -> None:
    prompts = bench_prompts()
    assert len({prompt.text for prompt in prompts}) == 48
    assert [prompt.held_out for prompt in prompts] == [False, True] * 24
    assert all(is_held_out(prompt.scenes[0]) == prompt.held_out for prompt in prompts)


@pytest.mark.parametrize("held_out", [False, True])
def test_every_color_comes_first_twice(held_out: bool) -> None:
    prompts = [prompt for prompt in bench_prompts() if prompt.held_out == held_out]
    counts = Counter(prompt.scenes[0].items[0].color for prompt in prompts)
    assert counts == dict.fromkeys(COLORS, 2)


def test_pairs_show_the_same_objects_and_no_object_stands_in_two_pairs() -> None:
    prompts = bench_prompts()
    seen: list[str] = []
    for first, second in zip(prompts[::2], prompts[1::2], strict=True):
        objects = [item.object for item in first.scenes[0].items]
        assert objects == [item.object for item in second.scenes[0].items]
        seen += objects
    assert len(seen) == len(set(seen)) == 28


def test_held_out_relations_are_held_out_for_the_relation_alone() -> None:
    for first, second in zip(bench_prompts()[::2], bench_prompts()[1::2], strict=True):
        if first.scenes[0].relation is not None:
            assert first.scenes[0].items == second.scenes[0].items
            assert first.scenes[0].relation != second.scenes[0].relation


def test_kinds_are_as_many_as_documented() -> None:
    singles = [prompt for prompt in bench_prompts() if prompt.scenes[0].relation is None]
    plain = [p for p in singles if p.scenes[0].items[0].second_color is None]
    painted = [p for p in singles if p.scenes[0].items[0].second_color is not None]
    assert len(singles) == 40 and len(plain) == 28 and len(painted) == 12
    assert sum(p.scenes[0].has_front for p in plain) == 16
    assert sum(p.scenes[0].has_front for p in painted) == 6
    assert sum(prompt.has_janus_answer for prompt in bench_prompts()) == 22


@pytest.mark.parametrize("count", [6, 12, 24])
def test_beginnings_are_balanced(count: int) -> None:
    kinds = Counter(ORDER[: count // 2])
    assert len(kinds) >= min(3, count // 2)
    held_out = [prompt.held_out for prompt in bench_prompts()[:count]]
    assert sum(held_out) == count // 2
