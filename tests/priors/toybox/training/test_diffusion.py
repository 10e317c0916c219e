import pytest
import torch
from torch import nn

from dreamlab.priors.toybox.training.dataset import SHARD_SIZE, SINGLES, VARIANTS, ShardPool
from dreamlab.priors.toybox.training.diffusion import (
    DiffusionConfig,
    draw_batch,
    draw_timesteps,
    learning_rate,
    update_ema,
)
from dreamlab.priors.toybox.training.twins import GROUP


def test_the_average_follows_its_formula():
    average, module = nn.Linear(3, 2), nn.Linear(3, 2)
    before, new = average.weight.detach().clone(), module.weight.detach().clone()
    update_ema(average, module, decay=0.9, step=2)
    d = min(0.9, 3 / 12)
    torch.testing.assert_close(average.weight, d * before + (1 - d) * new)
    middle = average.weight.detach().clone()
    update_ema(average, module, decay=0.9, step=10_000)
    torch.testing.assert_close(average.weight, 0.9 * middle + 0.1 * new)


def test_timesteps_cover_the_schedule_evenly():
    drawn = draw_timesteps(100, 1000, 1.0, torch.Generator().manual_seed(0))
    assert (drawn.sort().values // 10).tolist() == list(range(100))


def test_an_exponent_below_one_draws_noisy_times_more_often():
    drawn = draw_timesteps(10_000, 1000, 0.75, torch.Generator().manual_seed(0)) / 1000
    for t in (0.2, 0.5, 0.8):
        assert abs(float((drawn < t).float().mean()) - t ** (1 / 0.75)) < 1e-2


def test_the_learning_rate_rises_stays_and_falls_to_zero():
    config = DiffusionConfig(steps=1000, warm_up=100, cooldown=0.2, learning_rate=1.0)
    assert learning_rate(config, 49) == pytest.approx(0.5)
    assert learning_rate(config, 500) == 1.0
    assert learning_rate(config, 900) == pytest.approx(0.5)
    assert learning_rate(config, 1000) == 0.0


@pytest.fixture
def pool(tmp_path):
    """Two shards; a latent is its place, a token the number of the caption."""

    def make(index):
        places = torch.arange(SHARD_SIZE) + index * SHARD_SIZE
        tokens = torch.arange(VARIANTS).expand(SHARD_SIZE, VARIANTS)
        return {
            "latents": places.float()[:, None, None, None].expand(-1, 2, 3, 3).contiguous(),
            "tokens": tokens.to(torch.int16)[:, :, None].repeat(1, 1, 4),
        }

    made = ShardPool(tmp_path, "a", make)
    made.grow(2)
    return made


def draw(pool, config, step=0):
    empty = torch.full((1, 4), -1)
    return draw_batch(pool, len(pool), empty, seed=1, step=step, config=config, timesteps=1000)


def test_half_a_batch_are_whole_groups_of_twins_with_one_noise_and_timestep(pool):
    config = DiffusionConfig(batch=40, twin_share=0.45, empty_share=0.0)
    kinds = set()
    for step in range(20):
        batch = draw(pool, config, step)
        places = batch.latents[:, 0, 0, 0].long()
        singles, twins = places[:24], places[24:].reshape(2, GROUP)
        assert (singles % SHARD_SIZE < SINGLES).all() and (twins % SHARD_SIZE >= SINGLES).all()
        assert (twins.diff(dim=1) == 1).all() and (twins[:, 0] % GROUP == 0).all()
        kinds.add(tuple((twins[:, 0] // GROUP % 2).tolist()))
        assert batch.tokens[24:].max() < VARIANTS - 1
        for shared in (batch.noise.flatten(1), batch.timesteps[:, None]):
            groups = shared[24:].reshape(2, GROUP, -1)
            assert torch.equal(groups, groups[:, :1].expand_as(groups))
            assert not torch.equal(groups[0], groups[1])
        assert len(set(batch.noise[:24, 0, 0, 0].tolist())) == 24
    assert kinds == {(0, 1)}


def test_small_batches_have_no_twins_and_some_captions_are_empty(pool):
    config = DiffusionConfig(batch=10, empty_share=0.5)
    batches = [draw(pool, config, step) for step in range(50)]
    assert all((b.latents[:, 0, 0, 0] % SHARD_SIZE < SINGLES).all() for b in batches)
    empty = torch.cat([(b.tokens == -1).all(1) for b in batches]).float().mean()
    assert 0.4 < empty < 0.6
    again = draw(pool, config, 7)
    assert torch.equal(again.noise, batches[7].noise)
    assert torch.equal(again.tokens, batches[7].tokens)
