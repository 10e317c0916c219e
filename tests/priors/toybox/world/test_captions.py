"""Captions say what is in the scene: reading one gives the scene back."""

import numpy as np
import pytest

from dreamlab.core.errors import InputError
from dreamlab.priors.toybox.world.captions import (
    caption,
    parse_prompt,
    prompt_of,
    unknown_words,
    vocabulary,
)
from dreamlab.priors.toybox.world.objects.catalogue import OBJECTS
from dreamlab.priors.toybox.world.scenes import Item, Scene, sample_scene
from dreamlab.priors.toybox.world.views import VIEW_WORDS

CHOICES = (None, *VIEW_WORDS)


@pytest.fixture(scope="module")
def draws() -> list[tuple[Scene, str]]:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, held_out=i % 4 == 0) for i in range(2000)]
    return [(scene, caption(scene, CHOICES[rng.integers(5)], rng)) for scene in scenes]


def test_parsing_a_caption_gives_the_scene_back(draws: list[tuple[Scene, str]]) -> None:
    for scene, text in draws:
        assert parse_prompt(text) == scene, text


def test_parsing_the_canonical_prompt_gives_the_scene_back(
    draws: list[tuple[Scene, str]],
) -> None:
    for scene, _ in draws:
        assert parse_prompt(prompt_of(scene)) == scene


def test_captions_use_the_vocabulary_and_all_of_it(draws: list[tuple[Scene, str]]) -> None:
    rng = np.random.default_rng(1)
    used = {word for _, text in draws for word in text.replace(",", "").split()}
    assert used <= set(vocabulary())
    for name in OBJECTS:
        for count in (1, 2):
            scene = Scene((Item(name, "red"),), count=count)
            used |= {word for _ in range(60) for word in caption(scene, None, rng).split()}
    assert set(vocabulary()) - used <= {"the"}  # only people say "the"


def test_a_caption_names_the_view_it_was_given(draws: list[tuple[Scene, str]]) -> None:
    rng = np.random.default_rng(2)
    for scene, _ in draws[:100]:
        for word in VIEW_WORDS:
            assert f"{word} view" in caption(scene, word, rng)
        assert "view" not in caption(scene, None, rng)
    with pytest.raises(InputError, match="top"):
        caption(draws[0][0], "top", rng)


def test_articles_follow_the_sound_of_the_next_word() -> None:
    assert prompt_of(Scene((Item("owl", "red"),))).startswith("a red")
    assert prompt_of(Scene((Item("cube", "orange"),))).startswith("an orange")
    rng = np.random.default_rng(4)
    said = {caption(Scene((Item("elephant", "grey"),)), None, rng) for _ in range(100)}
    assert "an elephant" in said
    assert "a grey elephant" in said


def test_phrasings_vary() -> None:
    rng = np.random.default_rng(3)
    scene = Scene((Item("mug", "red", "striped", "blue"),))
    assert len({caption(scene, "front", rng) for _ in range(200)}) > 10


@pytest.mark.parametrize(
    ("text", "scene"),
    [
        ("a red mushroom", Scene((Item("mushroom", "red"),))),
        ("Red mushroom, side view", Scene((Item("mushroom", "red"),))),
        ("front view of a small pink car", Scene((Item("car", "pink", size="small"),))),
        ("a striped red and white mug", Scene((Item("mug", "red", "striped", "white"),))),
        ("the red mug with white stripes", Scene((Item("mug", "red", "striped", "white"),))),
        ("two green cones", Scene((Item("cone", "green"),), count=2)),
        ("a duck", Scene((Item("duck", "yellow"),))),
        ("an orange pine tree", Scene((Item("pine tree", "orange"),))),
        ("a 3D render of a teddy bear.", Scene((Item("bear", "brown"),))),
        (
            "a blue sphere on top of a yellow cube, side view",
            Scene((Item("sphere", "blue"), Item("cube", "yellow")), "on top of"),
        ),
        (
            "a red traffic light in front of a green house, front view",
            Scene((Item("traffic light", "red"), Item("house", "green")), "in front of"),
        ),
    ],
)
def test_prompts_that_people_write_are_understood(text: str, scene: Scene) -> None:
    assert parse_prompt(text) == scene


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a red dragon", "dragon"),
        ("a mauve cube", "mauve"),
        ("a red muschroom", "mushroom"),
        ("", "object"),
        ("a red", "object"),
        ("a cube", "colour"),
        ("a red green blue cube", "colour"),
        ("a small big red cube", "size"),
        ("a red cube two", "object"),
        ("a red two cube", "two"),
        ("two red cubes next to a red cone", "counts"),
        ("a red cube on a red cube on a red cube", "more than two"),
        ("a red cube on top of a green sphere", "stand"),
    ],
)
def test_other_prompts_are_refused_with_the_reason(text: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        parse_prompt(text)


def test_unknown_words_come_with_their_nearest_known_ones() -> None:
    unknown = unknown_words("a hyperrealistic muschroom, front view")
    assert list(unknown) == ["hyperrealistic", "muschroom"]
    assert "mushroom" in unknown["muschroom"]
    assert unknown_words("a red mushroom") == {}
