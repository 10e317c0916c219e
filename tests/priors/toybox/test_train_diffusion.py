import pytest
import torch
from torch import nn

from dreamlab.priors.toybox.train_diffusion import (
    DiffusionConfig,
    draw_timesteps,
    learning_rate,
    min_snr_weight,
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


def test_the_weighting_is_min_snr_for_velocities():
    alpha_bar = torch.linspace(0.001, 0.999, 50)
    snr = alpha_bar / (1 - alpha_bar)
    torch.testing.assert_close(min_snr_weight(alpha_bar, 5.0), snr.clamp(max=5) / (snr + 1))


def test_timesteps_cover_the_schedule_evenly():
    drawn = draw_timesteps(100, 1000, torch.Generator().manual_seed(0))
    assert (drawn.sort().values // 10).tolist() == list(range(100))


def test_the_learning_rate_rises_stays_and_falls_to_zero():
    config = DiffusionConfig(steps=1000, warm_up=100, cooldown=0.2, learning_rate=1.0)
    assert learning_rate(config, 49) == pytest.approx(0.5)
    assert learning_rate(config, 500) == 1.0
    assert learning_rate(config, 900) == pytest.approx(0.5)
    assert learning_rate(config, 1000) == 0.0
