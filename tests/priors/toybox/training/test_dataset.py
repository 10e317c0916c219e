import numpy as np
import pytest
import torch

from dreamlab.core.errors import InputError
from dreamlab.priors.toybox.tokenizer import build_tokenizer
from dreamlab.priors.toybox.training.dataset import (
    GROUPS,
    SHARD_SIZE,
    SINGLES,
    VARIANTS,
    ShardPool,
    insert_nonsense,
    make_shard,
    num_shards,
    render_samples,
    render_twins,
)
from dreamlab.priors.toybox.training.twins import GROUP
from dreamlab.priors.toybox.world.captions import unknown_words, vocabulary
from dreamlab.priors.toybox.world.views import VIEW_WORDS


def test_samples_are_a_function_of_seed_purpose_and_index():
    first, again = (render_samples(1, "shard", 3, 4, 16) for _ in range(2))
    assert torch.equal(first.images, again.images) and first.captions == again.captions
    for other in (
        render_samples(2, "shard", 3, 4, 16),
        render_samples(1, "vae", 3, 4, 16),
        render_samples(1, "shard", 4, 4, 16),
    ):
        assert not torch.equal(first.images, other.images)


def test_only_the_last_caption_names_no_view():
    samples = render_samples(1, "shard", 0, 32, 8)
    assert all(len(variants) == VARIANTS for variants in samples.captions)

    def names_view(text):
        return any(f"{word} view" in text for word in VIEW_WORDS)

    assert not any(names_view(variants[-1]) for variants in samples.captions)
    told = [names_view(text) for variants in samples.captions for text in variants[:-1]]
    assert sum(told) >= 0.9 * len(told)  # nonsense may stand between the two words


def test_a_shard_holds_independent_images_and_then_groups_of_twins():
    tokenizer = build_tokenizer(vocabulary(), 32)
    shard = make_shard(1, 0, size=8, tokenizer=tokenizer, encode_images=lambda images: images)
    assert shard["latents"].shape == (SHARD_SIZE, 3, 8, 8)
    assert shard["tokens"].shape == (SHARD_SIZE, VARIANTS, 32)
    corner = shard["latents"][SINGLES:, :, 0, 0].reshape(GROUPS, GROUP, 3)
    assert (corner.var(dim=1) < 1e-6).all()  # one background in a group
    assert corner[:, 0].var(dim=0).min() > 1e-3
    twins = render_twins(1, SHARD_SIZE // 64 - 1, 8, 8).images.half()
    assert torch.equal(shard["latents"][-64:], twins)


def test_a_twentieth_of_captions_has_a_word_nobody_knows():
    rng = np.random.default_rng(0)
    texts = [insert_nonsense("a red mushroom", rng) for _ in range(4000)]
    share = sum(bool(unknown_words(text)) for text in texts) / len(texts)
    assert 0.035 < share < 0.065


def test_images_are_reused_as_often_as_asked():
    steps, batch, reuse = 2000, 32, 2.0
    count = num_shards(steps, batch, first=0, last=10_000, reuse=reuse)
    assert steps * batch / (count * SHARD_SIZE) == pytest.approx(reuse, rel=0.02)
    assert num_shards(10**9, batch, first=8, last=50, reuse=reuse) == 50


def shard_of(index):
    return {
        "latents": torch.full((SHARD_SIZE, 1, 2, 2), float(index)).half(),
        "tokens": torch.full((SHARD_SIZE, VARIANTS, 3), index, dtype=torch.int16),
    }


def test_a_pool_reads_what_was_made_before(tmp_path):
    made = []

    def make(index):
        made.append(index)
        return shard_of(index)

    ShardPool(tmp_path, "a", make).grow(2)
    pool = ShardPool(tmp_path, "a", make)
    pool.grow(3)
    assert made == [0, 1, 2]
    latents, tokens = pool.draw(torch.tensor([SHARD_SIZE, 0]), torch.tensor([1, 0]))
    assert latents[:, 0, 0, 0].tolist() == [1.0, 0.0] and tokens[:, 0].tolist() == [1, 0]


def test_a_shard_of_another_training_is_refused(tmp_path):
    ShardPool(tmp_path, "a", shard_of).grow(1)
    with pytest.raises(InputError, match="made for a"):
        ShardPool(tmp_path, "b", shard_of).grow(1)
