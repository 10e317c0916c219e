"""The judge and its training: batches, loss, saving."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from dreamlab.core.errors import MissingError
from dreamlab.priors.toybox.judge.network import MAX_WORDS, PADDING, UNKNOWN, Judge, load_judge
from dreamlab.priors.toybox.judge.train import (
    RIVALS,
    JudgeBatch,
    JudgeConfig,
    batch_loss,
    contrastive_loss,
    exchanges,
    make_batch,
    near_misses,
    rivals,
    save_judge,
    train_judge,
)
from dreamlab.priors.toybox.world.captions import parse_prompt, vocabulary
from dreamlab.priors.toybox.world.scenes import Item, Scene, sample_scene
from dreamlab.priors.toybox.world.views import VIEW_WORDS

TINY = JudgeConfig(steps=3, groups=2, seed=5)


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge(vocabulary()).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def batch() -> JudgeBatch:
    return make_batch(JudgeConfig(groups=6, seed=5), 0)


def test_known_words_have_indices_of_their_own_and_unknown_ones_share_one(judge: Judge) -> None:
    rows = judge.tokenize(["A red duck, front view!", "blorp snark", ""])
    assert rows.shape == (3, MAX_WORDS)
    known = rows[0][rows[0] != PADDING]
    assert len(known) == 5 and len(set(known.tolist())) == 5
    assert UNKNOWN not in known
    assert rows[1][:2].tolist() == [UNKNOWN, UNKNOWN] and rows[2][0] == UNKNOWN
    assert len(judge.tokenize(["red " * 99])[0]) == MAX_WORDS


def test_a_score_depends_on_no_other_picture_or_caption(judge: Judge) -> None:
    images = torch.rand(3, 64, 64, 3)
    captions = ["a red duck", "a blue car on top of a big checkered green and white table", "x"]
    together = judge.scores(images, captions)
    for i in range(3):
        for j in range(3):
            alone = judge.scores(images[i : i + 1], [captions[j]])
            torch.testing.assert_close(alone[0, 0], together[i, j], rtol=1e-4, atol=1e-4)


def test_scores_are_cosines_times_the_temperature(judge: Judge) -> None:
    scores = judge.scores(torch.rand(4, 64, 64, 3), ["a red duck", "a cat"])
    assert scores.abs().max() <= judge.log_temperature.exp() * (1 + 1e-5)


def test_large_pictures_are_shrunk_by_area(judge: Judge) -> None:
    small = torch.rand(1, 64, 64, 3)
    large = small.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    captions = ["a red duck", "a cat"]
    torch.testing.assert_close(judge.scores(large, captions), judge.scores(small, captions))


def test_a_saved_judge_gives_the_same_answers(judge: Judge, tmp_path: Path) -> None:
    save_judge(judge, tmp_path / "judge")
    loaded = load_judge(tmp_path / "judge")
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    images = torch.rand(4, 64, 64, 3)
    expected = judge.scores(images, ["a red duck", "a cat"])
    torch.testing.assert_close(
        loaded.scores(images, ["a red duck", "a cat"]), expected, rtol=0, atol=0.05
    )


def test_a_folder_without_a_judge_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no judge"):
        load_judge(tmp_path)


@pytest.mark.parametrize("seed", range(8))
def test_near_misses_differ_from_the_scene_in_one_item(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    first, second, recolored, replaced = near_misses(scene, rng)
    assert first == second == scene
    for other in (recolored, replaced):
        assert (other.relation, other.count) == (scene.relation, scene.count)
        changed = [a != b for a, b in zip(scene.items, other.items, strict=True)]
        assert sum(changed) == 1
    place = [a != b for a, b in zip(scene.items, recolored.items, strict=True)].index(True)
    assert recolored.items[place].object == scene.items[place].object
    assert recolored.items[place].color != scene.items[place].color
    assert {item.object for item in replaced.items} != {item.object for item in scene.items}


@pytest.mark.parametrize("word", VIEW_WORDS)
def test_rivals_say_something_else_than_what_is_seen(word: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        scene = sample_scene(rng)
        texts = rivals(scene, word, rng)
        assert len(texts) == RIVALS
        for text in texts:
            assert f"{word} view" not in text or parse_prompt(text) != scene


def test_of_an_object_with_a_front_the_view_is_denied_of_others_it_is_not() -> None:
    rng = np.random.default_rng(3)
    duck = rivals(Scene((Item("duck", "red"),)), "back", rng)
    assert sum("back view" not in text for text in duck) == 2
    cone = rivals(Scene((Item("cone", "red"),)), "back", rng)
    assert all("back view" in text for text in cone)


def test_exchanges_are_of_items_and_of_colours_where_they_say_something_else() -> None:
    red, blue = Item("cube", "red"), Item("sphere", "blue")
    swapped = {"on top of": 1, "in front of": 2, "next to": 1}
    for relation, number in swapped.items():
        scene = Scene((blue, red), relation)  # type: ignore[arg-type]
        found = exchanges(scene)
        assert len(found) >= number and scene not in found
        colors = [item.color for item in found[-1].items]
        assert colors == ["red", "blue"] and found[-1].items[0].object == "sphere"
    assert exchanges(Scene((red,))) == []
    assert exchanges(Scene((red, Item("sphere", "red")), "next to")) == []


def test_every_picture_fits_its_own_caption_and_no_other_scene(batch: JudgeBatch) -> None:
    assert batch.images.shape == (24, 64, 64, 3)
    assert batch.fits.diagonal().all()
    scenes = [parse_prompt(text) for text in batch.captions]
    for i, j in torch.nonzero(batch.fits).tolist():
        assert scenes[i] == scenes[j]
    assert batch.fits.float().mean() < 0.15


def test_a_batch_is_a_pure_function_of_seed_and_step(batch: JudgeBatch) -> None:
    again = make_batch(JudgeConfig(groups=6, seed=5), 0)
    assert again.captions == batch.captions
    assert torch.equal(again.images, batch.images)
    other = make_batch(JudgeConfig(groups=6, seed=5), 1)
    assert other.captions != batch.captions


def test_with_one_right_answer_the_loss_is_that_of_clip() -> None:
    scores = torch.randn(5, 5, dtype=torch.float64)
    own = torch.arange(5)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = (cross_entropy(scores, own) + cross_entropy(scores.T, own)) / 2
    none = torch.zeros(5, 0, dtype=torch.float64)
    torch.testing.assert_close(contrastive_loss(scores, torch.eye(5) > 0, none), expected)


def test_rivals_count_as_wrong_captions_of_their_own_picture_alone() -> None:
    scores, rival_scores = torch.randn(5, 5).double(), torch.randn(5, 3).double()
    cross_entropy = torch.nn.functional.cross_entropy
    own = torch.arange(5)
    expected = cross_entropy(torch.cat([scores, rival_scores], 1), own)
    expected = (expected + cross_entropy(scores.T, own)) / 2
    torch.testing.assert_close(contrastive_loss(scores, torch.eye(5) > 0, rival_scores), expected)


def test_the_loss_is_zero_if_everything_fits_and_its_gradient_is_right() -> None:
    scores = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    fits = torch.eye(4) > 0
    fits[0, 1] = fits[1, 0] = True
    wrong = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda s, r: contrastive_loss(s, fits, r), (scores, wrong))
    nothing = torch.zeros(4, 0, dtype=torch.float64)
    torch.testing.assert_close(
        contrastive_loss(scores, torch.ones(4, 4) > 0, nothing),
        torch.zeros((), dtype=torch.float64),
    )


def test_training_is_repeatable_and_leaves_a_loadable_judge(tmp_path: Path) -> None:
    losses: list[list[float]] = [[], []]
    for attempt in range(2):
        train_judge(TINY, tmp_path, lambda step, loss, to=losses[attempt]: to.append(loss))
    assert losses[0] == losses[1] and len(losses[0]) == 3
    assert json.loads((tmp_path / "words.json").read_text()) == list(vocabulary())
    load_judge(tmp_path)


@pytest.mark.slow
def test_it_learns_to_tell_the_pictures_of_a_batch_apart(batch: JudgeBatch) -> None:
    torch.manual_seed(1)
    judge = Judge(vocabulary())
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3)

    before = batch_loss(judge, batch).item()
    for _ in range(22):
        optimizer.zero_grad()
        batch_loss(judge, batch).backward()
        optimizer.step()
    assert batch_loss(judge, batch).item() < 0.75 * before
