import math

import pytest

from dreamlab.training.watch import (
    EMPTY_OPACITY,
    FULL_OPACITY,
    MAX_RESTORES,
    PATIENCE,
    CollapseWatch,
)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_bad_at_once(bad: float) -> None:
    watch = CollapseWatch()
    assert "loss" in (watch.judge(bad, 1.0, 0.3) or "")
    assert "gradient" in (watch.judge(1.0, bad, 0.3) or "")


@pytest.mark.parametrize(
    ("opacity", "word"), [(EMPTY_OPACITY / 2, "empty"), ((1 + FULL_OPACITY) / 2, "full")]
)
def test_views_may_be_empty_or_full_for_a_while_only(opacity: float, word: str) -> None:
    watch = CollapseWatch()
    verdicts = [watch.judge(1.0, 1.0, opacity) for _ in range(PATIENCE)]
    assert verdicts[:-1] == [None] * (PATIENCE - 1)
    assert word in (verdicts[-1] or "")
    assert not watch.is_calm


def test_a_stage_must_not_end_empty_or_full() -> None:
    for opacity in (0.0, 1.0):
        assert CollapseWatch().judge(1.0, 1.0, opacity, is_last=True) is not None
    assert CollapseWatch().judge(1.0, 1.0, 0.3, is_last=True) is None


def test_one_view_with_an_outline_resets_the_patience() -> None:
    watch = CollapseWatch()
    for _ in range(3 * PATIENCE):
        for _ in range(PATIENCE - 1):
            assert watch.judge(1.0, 1.0, 0.0) is None
        assert watch.judge(1.0, 1.0, 0.3) is None
        assert watch.is_calm


def test_a_non_finite_opacity_counts_as_collapsed() -> None:
    watch = CollapseWatch()
    watch.judge(1.0, 1.0, math.nan)
    assert not watch.is_calm


def test_every_restore_halves_the_rate_and_there_are_only_so_many() -> None:
    watch = CollapseWatch()
    for count in range(MAX_RESTORES):
        assert watch.may_restore
        assert watch.rate_factor == 0.5**count
        watch.judge(1.0, 1.0, 0.0)
        watch.note_restore()
        assert watch.is_calm
    assert not watch.may_restore


def test_a_watch_goes_on_from_its_state() -> None:
    watch = CollapseWatch()
    watch.note_restore()
    for _ in range(PATIENCE - 1):
        watch.judge(1.0, 1.0, 0.0)
    again = CollapseWatch(watch.state)
    assert again.rate_factor == 0.5
    assert again.judge(1.0, 1.0, 0.0) is not None
