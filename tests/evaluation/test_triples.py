"""The prompts of three objects are what their documentation claims."""

from collections import Counter

from dreamlab.evaluation.prompts import all_prompts, bench_prompts
from dreamlab.evaluation.triples import ORDER, SEED, TRIPLES, draw_triples
from dreamlab.jobs.layouts.words import layout_of
from dreamlab.priors.toybox.world.palette import COLORS
from dreamlab.priors.toybox.world.scenes import Scene, is_held_out

PROMPTS = all_prompts()[len(bench_prompts()) :]


def test_the_frozen_list_is_what_the_rule_draws() -> None:
    assert draw_triples(SEED) == TRIPLES
    assert [prompt.text for prompt in PROMPTS] == list(TRIPLES)


def test_they_stand_behind_the_48_and_are_all_held_out() -> None:
    assert all_prompts()[:48] == bench_prompts()
    assert all(prompt.held_out and not prompt.has_janus_answer for prompt in PROMPTS)
    assert all(len(prompt.objects) == 3 for prompt in PROMPTS)


def test_every_color_is_that_of_two_objects_and_no_object_comes_twice() -> None:
    items = [scene.items[0] for prompt in PROMPTS for scene in prompt.scenes]
    assert Counter(item.color for item in items) == dict.fromkeys(COLORS, 2)
    assert len({item.object for item in items}) == len(items)
    for prompt in PROMPTS:
        assert len({scene.items[0].color for scene in prompt.scenes}) == 3


def test_objects_and_relations_are_those_that_were_trained_on() -> None:
    for prompt, relations in zip(PROMPTS, ORDER, strict=True):
        items = [scene.items[0] for scene in prompt.scenes]
        assert all(item.pattern == "plain" and item.second_color is None for item in items)
        for first, relation, second in zip(items, relations, items[1:], strict=False):
            assert f" {relation} " in prompt.text
            assert not is_held_out(Scene((first, second), relation))


def test_on_top_of_comes_second_only_after_itself() -> None:
    assert all(first == second for first, second in ORDER if second == "on top of")


def test_their_words_give_each_object_its_box() -> None:
    for prompt in PROMPTS:
        assert tuple(box.prompt for box in layout_of(prompt.text).boxes) == prompt.objects


def test_the_truth_has_each_object_in_its_box() -> None:
    prompt = PROMPTS[0]
    truth, boxes = prompt.truth(resolution=32), layout_of(prompt.text).boxes
    assert truth.colors is not None and truth.normals is not None
    inside = [
        (abs(truth.vertices - box.center) <= [side / 2 for side in box.size]).all(axis=1)
        for box in boxes
    ]
    assert all(own.any() for own in inside) and sum(inside).min() == sum(inside).max() == 1
    yellow = truth.colors[inside[0]].mean(axis=0)
    assert yellow[0] > 0.8 and yellow[1] > 0.6 and yellow[2] < 0.3
