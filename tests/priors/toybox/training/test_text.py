import numpy as np
import pytest
import torch

from dreamlab.priors.toybox.model import Architecture, build_text_encoder
from dreamlab.priors.toybox.tokenizer import build_tokenizer
from dreamlab.priors.toybox.training.text import (
    CLASSES,
    TextConfig,
    build_heads,
    facts_of,
    recall_loss,
    train_text,
)
from dreamlab.priors.toybox.world.captions import vocabulary
from dreamlab.priors.toybox.world.scenes import sample_scene
from dreamlab.priors.toybox.world.views import VIEW_WORDS


def test_facts_fit_their_classes_and_tell_scenes_apart():
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(300)]
    rows = [tuple(facts_of(scene, VIEW_WORDS[0])) for scene in scenes]
    for row in rows:
        assert all(0 <= fact < count for fact, count in zip(row, CLASSES, strict=True))
    for row, scene in zip(rows, scenes, strict=True):
        twins = [other for other, own in zip(scenes, rows, strict=True) if own == row]
        assert all(other == scene for other in twins)


def test_a_view_is_a_fact():
    scene = sample_scene(np.random.default_rng(1))
    assert facts_of(scene, None) != facts_of(scene, VIEW_WORDS[0])


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    architecture = Architecture(text_width=64, text_layers=1)
    tokenizer = build_tokenizer(vocabulary(), architecture.tokens)
    return build_text_encoder(architecture, tokenizer), build_heads(64), tokenizer


def losses_of(encoder, *, heads_only):
    losses = []
    train_text(
        *encoder,
        TextConfig(steps=30, batch=48),
        seed=1,
        on_step=lambda step, values: losses.append(values["loss"]),
        heads_only=heads_only,
    )
    return losses


def test_training_teaches_the_facts(encoder):
    losses = losses_of(encoder, heads_only=False)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_heads_can_be_fitted_to_an_encoder_that_stays(encoder):
    before = {name: t.clone() for name, t in encoder[0].state_dict().items()}
    losses = losses_of(encoder, heads_only=True)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    for name, tensor in encoder[0].state_dict().items():
        assert torch.equal(tensor, before[name])


def test_recall_is_a_function_of_seed_and_step(encoder):
    def recall(seed, step):
        return recall_loss(*encoder, 4, seed=seed, step=step).item()

    assert recall(1, 2) == recall(1, 2)
    assert recall(1, 2) != recall(1, 3)
    assert recall(1, 2) != recall(2, 2)
