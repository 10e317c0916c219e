import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_run import toy_stage

from dreamlab.core.errors import InputError
from dreamlab.core.layout import Box, Layout
from dreamlab.training.settings_match import MAX_SHOWN, check_settings, settings_to_match

STAGES = {"coarse": toy_stage(steps=6), "fine": toy_stage(steps=8, start_from="previous")}
SAVED = settings_to_match(STAGES, "a ball", "", 0, "toybox")


def changed(key: str, value: Any) -> dict[str, Any]:
    settings = copy.deepcopy(SAVED)
    place = settings
    *path, last = key.split(".")
    for name in path:
        place = place[name]
    place[last] = value
    return settings


def check(given: dict[str, Any], stage_index: int = 0, step: int = 3) -> None:
    check_settings(SAVED, given, stage_index=stage_index, step=step, path=Path("last.safetensors"))


def test_the_same_settings_match() -> None:
    check(copy.deepcopy(SAVED))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("prompt", "a cube", "prompt: 'a ball' -> 'a cube'"),
        ("seed", 3, "seed: 0 -> 3"),
        ("prior.model", "sd15", "prior.model: 'toybox' -> 'sd15'"),
        ("stages.fine.views", 4, "stages.fine.views: 2 -> 4"),
        (
            "stages.coarse.guidance.guidance_scale",
            {"from": 1.0, "to": 2.0},
            r"stages\.coarse\.guidance\.guidance_scale: 1\.0 -> {'from': 1\.0",
        ),
        ("stages.extra", {"steps": 3}, r"stages\.extra: \(not set\) -> "),
    ],
)
def test_a_difference_that_matters_is_named_with_both_values(
    key: str, value: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        check(changed(key, value))
    assert "old values" in caught.value.fix


def test_a_stage_that_is_gone_and_stages_that_changed_places_are_named() -> None:
    gone = changed("seed", 0)
    del gone["stages"]["fine"]
    with pytest.raises(InputError, match=r"stages\.fine: .* -> \(not set\)"):
        check(gone)
    turned = SAVED | {"stages": dict(reversed(SAVED["stages"].items()))}
    with pytest.raises(InputError, match="coarse, fine -> fine, coarse"):
        check(turned)


@pytest.mark.parametrize(
    ("stage", "steps", "stage_index", "step"),
    [("coarse", 20, 0, 3), ("coarse", 3, 0, 3), ("fine", 2, 0, 6), ("fine", 80, 1, 8)],
)
def test_steps_that_are_not_done_yet_may_become_more_or_fewer(
    stage: str, steps: int, stage_index: int, step: int
) -> None:
    check(changed(f"stages.{stage}.steps", steps), stage_index, step)


def test_steps_that_are_done_cannot_be_taken_back() -> None:
    with pytest.raises(InputError, match=r"stages\.coarse\.steps: 6 -> 2 \(3 are done\)"):
        check(changed("stages.coarse.steps", 2))
    with pytest.raises(InputError, match=r"stages\.coarse\.steps: 6 -> 9 .*complete"):
        check(changed("stages.coarse.steps", 9), stage_index=1, step=0)


def test_who_does_not_know_the_prior_does_not_compare_it() -> None:
    check(settings_to_match(STAGES, "a ball", "", 0, None))


def test_many_differences_are_counted_rather_than_listed() -> None:
    other = {name: toy_stage(views=5, optimizer={"eps": 0.1}) for name in STAGES}
    given = settings_to_match(other, "a cube", "x", 1, "y")
    with pytest.raises(InputError, match=r"and 3 more") as caught:
        check(given)
    assert caught.value.message.count(" -> ") == MAX_SHOWN + 1  # the first explains the arrow


def test_another_layout_is_a_difference_and_none_is_not_mentioned() -> None:
    layout = Layout((Box("a ball", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),))
    with_layout = settings_to_match(STAGES, "a ball", "", 0, "toybox", layout)
    assert "layout" not in SAVED
    with pytest.raises(InputError, match=r"layout: \(not set\) -> "):
        check(with_layout)
    other = settings_to_match(STAGES, "a ball", "", 0, "toybox", replace(layout, prompt="a cube"))
    with pytest.raises(InputError, match=r"layout\.prompt: None -> 'a cube'"):
        check_settings(with_layout, other, stage_index=0, step=3, path=Path("last.safetensors"))
