import numpy as np
import torch

from dreamlab.priors.toybox.captions import vocabulary
from dreamlab.priors.toybox.model import Architecture, build_text_encoder
from dreamlab.priors.toybox.scenes import sample_scene
from dreamlab.priors.toybox.tokenizer import build_tokenizer
from dreamlab.priors.toybox.train_text import CLASSES, TextConfig, facts_of, train_text
from dreamlab.priors.toybox.views import VIEW_WORDS


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


def test_training_teaches_the_facts():
    torch.manual_seed(0)
    architecture = Architecture(text_width=64, text_layers=1)
    tokenizer = build_tokenizer(vocabulary(), architecture.tokens)
    text_encoder = build_text_encoder(architecture, tokenizer)
    losses = []
    train_text(
        text_encoder,
        tokenizer,
        TextConfig(steps=60, batch=64),
        seed=1,
        on_step=lambda step, values: losses.append(values["loss"]),
    )
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
