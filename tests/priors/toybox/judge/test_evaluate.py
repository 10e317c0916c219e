"""The questions put to the judge, and the accounting of its answers."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import save_tiny_pipeline

from dreamlab.core.pictures import to_bytes
from dreamlab.priors.toybox.judge.evaluate import (
    TOPICS,
    EvaluateConfig,
    Evaluation,
    Share,
    Task,
    Topic,
    Verdict,
    evaluate,
    make_tasks,
    question,
    questions,
    sample_view_of,
    share,
    true_images,
)
from dreamlab.priors.toybox.judge.network import FOLDER, Judge, load_judge
from dreamlab.priors.toybox.judge.report import sheet, table, to_json, write_evaluation
from dreamlab.priors.toybox.world.captions import parse_prompt, vocabulary
from dreamlab.priors.toybox.world.objects.catalogue import CATALOGUE
from dreamlab.priors.toybox.world.scenes import Item, Scene, is_held_out
from dreamlab.priors.toybox.world.views import VIEW_WORDS, view_word

SMALL = EvaluateConfig(pictures=16, steps=2, batch=8)


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge(vocabulary()).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def renders() -> Evaluation:
    """True renders in the place of pictures, before an untrained judge."""
    torch.manual_seed(0)
    untrained = Judge(vocabulary()).eval().requires_grad_(False)
    tasks = make_tasks(SMALL)
    images = true_images(tasks, seed=3, size=64)
    verdicts = question(tasks, images, untrained)
    return Evaluation(SMALL, tasks, to_bytes(images.numpy()), verdicts, verdicts)


def test_half_of_the_tasks_are_held_out_and_all_are_what_they_claim() -> None:
    tasks = make_tasks(EvaluateConfig())
    assert Counter(task.held_out for task in tasks) == {False: 100, True: 100}
    assert all(is_held_out(task.scene) == task.held_out for task in tasks)
    assert make_tasks(EvaluateConfig()) == tasks


@pytest.mark.parametrize("held_out", [False, True])
def test_objects_views_and_relations_come_evenly(held_out: bool) -> None:
    tasks = [task for task in make_tasks(EvaluateConfig()) if task.held_out == held_out]
    single = [task for task in tasks if task.scene.relation is None]
    assert len(single) == 80
    objects = Counter(task.scene.items[0].object for task in single)
    assert set(objects) == {kind.name for kind in CATALOGUE} and max(objects.values()) <= 2
    assert set(Counter(task.word for task in single).values()) == {80 // len(VIEW_WORDS)}
    relations = Counter(task.scene.relation for task in tasks if task.scene.relation)
    assert max(relations.values()) - min(relations.values()) <= 1 and len(relations) == 3


def test_every_question_offers_the_right_answer_once_among_different_ones() -> None:
    for task in make_tasks(EvaluateConfig(pictures=120)):
        asked = questions(task)
        assert asked
        for captions in asked.values():
            assert captions.count(task.prompt) == 1
            assert len(set(captions)) == len(captions) >= 2


def test_only_what_can_be_told_is_asked() -> None:
    def topics(prompt: str, word: str) -> set[str]:
        return set(questions(Task(parse_prompt(prompt), word, False)))

    assert topics("a red duck", "front") == {"object", "colour", "view"}
    assert topics("a red duck", "overhead") == {"colour", "view"}
    assert topics("a red cone", "side") == {"object", "colour"}
    assert topics("a red duck next to a blue cube", "front") == {"binding"}
    assert topics("a red duck on top of a blue cube", "front") == {"binding", "order"}


def test_order_exchanges_the_items_and_binding_the_colors() -> None:
    asked = questions(Task(parse_prompt("a red duck on top of a blue cube"), "front", False))
    assert asked["order"][1] == "a blue cube on top of a red duck, front view"
    assert asked["binding"][1] == "a blue duck on top of a red cube, front view"


@pytest.mark.parametrize("word", VIEW_WORDS)
def test_views_are_what_their_word_says(word: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(3):
        cameras = sample_view_of(word, rng).cameras
        assert len(cameras) == 1
        assert view_word(float(cameras.azimuth[0]), float(cameras.elevation[0])) == word


def test_a_picture_of_what_the_judge_sees_in_it_is_right(judge: Judge) -> None:
    """Retell every picture by the judge's own answer, and all its answers become right."""
    tasks = [
        Task(Scene((Item(name, "red"),)), word, False)
        for name, word in (("duck", "front"), ("cone", "side"), ("car", "overhead"))
    ]
    images = true_images(tasks, seed=1, size=64)
    colors = [v for v in question(tasks, images, judge) if v.topic == "colour"]
    retold = [Task(parse_prompt(v.answer), v.task.word, False) for v in colors]
    again = [v for v in question(retold, images, judge) if v.topic == "colour"]
    assert [v.answer for v in again] == [v.answer for v in colors]
    assert share(again, "colour", False) == Share(3, 3)


def test_shares_count_every_question_of_one_topic_and_half(renders: Evaluation) -> None:
    for held_out in (False, True):
        tasks = [task for task in renders.tasks if task.held_out == held_out]
        for topic in TOPICS:
            asked = sum(topic in questions(task) for task in tasks)
            found = share(renders.verdicts, topic, held_out)
            assert found.asked == asked and 0 <= found.right <= asked
    assert Share(0, 0).value is None and Share(3, 4).value == 0.75


def test_a_verdict_is_right_exactly_if_it_is_the_prompt() -> None:
    task = Task(parse_prompt("a red duck"), "front", False)
    right, wrong = (Verdict(0, task, "object", f"a red {n}, front view") for n in ("duck", "pig"))
    assert right.is_right and not wrong.is_right
    assert share([right, wrong, right], "object", False) == Share(2, 3)
    assert share([right, wrong], "object", True) == Share(0, 0)


def test_reports_hold_figures_ceilings_and_mistakes(renders: Evaluation, tmp_path: Path) -> None:
    paths = write_evaluation(renders, tmp_path / "new")
    assert [path.name for path in paths] == [
        "evaluation.md",
        "evaluation.json",
        "evaluation.png",
    ]
    found = json.loads(paths[1].read_text())
    wrong = [v for v in renders.verdicts if not v.is_right]
    assert len(found["wrong"]) == len(found["wrong_about_true_renders"]) == len(wrong)
    for topic in TOPICS:
        for half in found["shares"][topic].values():
            assert half["pictures"] == half["ceiling"]
    lines = [line for line in table(renders).split("\n") if line.startswith("|")]
    assert len(lines) == 2 + len(TOPICS) and len({line.count("|") for line in lines}) == 1
    with Image.open(paths[2]) as image:
        assert image.size == sheet(renders).size
    assert to_json(renders)["settings"]["pictures"] == 16


def test_frames_of_pictures_with_a_wrong_answer_are_red(renders: Evaluation) -> None:
    task = renders.tasks[0]
    right = Verdict(0, task, "colour", task.prompt)
    wrong = Verdict(1, renders.tasks[1], "colour", "something else")
    two = Evaluation(SMALL, renders.tasks[:2], renders.images[:2], [right, wrong], [])
    pixels = np.asarray(sheet(two))
    corner = [tuple(pixels[0, 20 + 162 * place]) for place in (0, 1)]
    assert corner == [(255, 255, 255), (255, 0, 0)]


def test_a_real_pipeline_is_questioned(judge: Judge, tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path)
    config = EvaluateConfig(pictures=4, steps=1, batch=2, relation_share=0.5)
    seen: list[tuple[str, float]] = []
    found = evaluate(
        config, tmp_path, judge, on_progress=lambda part, fraction: seen.append((part, fraction))
    )
    assert found.images.shape == (4, 32, 32, 3)
    assert {v.picture for v in found.verdicts} == {0, 1, 2, 3}
    assert [v.topic for v in found.verdicts] == [v.topic for v in found.ceiling]
    assert seen[0] == ("draw", 0.0) and seen[-1] == ("judge", 1.0)
    again = evaluate(config, tmp_path, judge)
    assert np.array_equal(found.images, again.images)


@pytest.mark.parametrize(
    "wrong",
    [{"pictures": 3}, {"cfg_scale": 8.0}, {"relation_share": 1.5}, {"steps": 0}, {"batch": 0}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        EvaluateConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.skipif(not (FOLDER / "judge.safetensors").exists(), reason="there is no trained judge")
@pytest.mark.parametrize(
    ("topic", "least"),
    [("object", 0.85), ("colour", 0.9), ("view", 0.85)],
)
def test_the_trained_judge_is_right_about_true_renders(topic: Topic, least: float) -> None:
    tasks = make_tasks(EvaluateConfig())
    verdicts = question(tasks, true_images(tasks, seed=9, size=64), load_judge())
    for held_out in (False, True):
        value = share(verdicts, topic, held_out).value
        assert value is not None and value >= least
