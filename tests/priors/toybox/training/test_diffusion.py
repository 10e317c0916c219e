import pytest
import torch
from torch import nn

from dreamlab.priors.toybox.training.diffusion import (
    DiffusionConfig,
    draw_timesteps,
    learning_rate,
    update_ema,
)


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
