"""Every timestep policy is its formula."""

import math

import numpy as np
import pytest
import torch

from dreamlab.core.schedules import Schedule
from dreamlab.guidance.timesteps import TimestepConfig, dreamtime_weight, sample_timesteps

PROGRESS = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0]


def draw(config: TimestepConfig, progress: float, num_views: int = 4, seed: int = 0):
    return sample_timesteps(config, progress, num_views, torch.Generator().manual_seed(seed))


def test_uniform_fills_its_range_evenly():
    t = draw(TimestepConfig(t_min=0.2, t_max=0.6), 0.5, 20000)
    assert 0.2 <= t.min() < 0.201 and 0.599 < t.max() <= 0.6
    counts = torch.histc(t, 8, 0.2, 0.6)
    assert (counts - 2500).abs().max() < 250


@pytest.mark.parametrize("progress", PROGRESS)
def test_moving_ends_are_followed(progress: float):
    config = TimestepConfig(t_min=Schedule(0.9, 0.02), t_max=Schedule(0.98, 0.5))
    t = draw(config, progress, 1000)
    assert t.min() >= 0.9 + (0.02 - 0.9) * progress - 1e-6
    assert t.max() <= 0.98 + (0.5 - 0.98) * progress + 1e-6


def test_a_step_drop_of_the_upper_end():
    config = TimestepConfig(t_max=Schedule(0.98, 0.5, end=0.2, ease="step"))
    assert draw(config, 0.19, 2000).max() > 0.9
    assert draw(config, 0.2, 2000).max() <= 0.5


@pytest.mark.parametrize("progress", PROGRESS)
def test_linear_and_sqrt_points(progress: float):
    linear = draw(TimestepConfig("linear", 0.25, 0.98), progress)
    torch.testing.assert_close(linear, torch.full((4,), 0.98 - 0.73 * progress))
    root = draw(TimestepConfig("sqrt", 0.3, 0.98), progress)
    torch.testing.assert_close(root, torch.full((4,), 0.98 - 0.68 * math.sqrt(progress)))


@pytest.mark.parametrize("bounds", [(0.02, 0.98), (0.2, 0.8)])
@pytest.mark.parametrize("progress", PROGRESS)
def test_dreamtime_is_the_quantile_of_the_tail_sum_over_a_thousand_timesteps(bounds, progress):
    low, high = bounds
    k = np.arange(int(low * 1000), int(high * 1000))
    w = np.where(k > 800, np.exp(-((k - 800) ** 2) / (2 * 300**2)), 1.0)
    w = np.where(k < 500, np.exp(-((k - 500) ** 2) / (2 * 100**2)), w)
    tail = np.cumsum(w[::-1])[::-1] / w.sum()
    expected = k[np.argmin(np.abs(tail - progress))] / 1000
    t = draw(TimestepConfig("dreamtime", low, high), progress)
    assert torch.equal(t, t[:1].expand(4))
    tolerance = 0.002 / float(dreamtime_weight(t[:1].double()))  # a timestep of weight w is wide
    if 0 < progress < 1:
        assert abs(float(t[0]) - expected) <= min(tolerance, 0.05)
    else:
        assert float(t[0]) == pytest.approx(high if progress == 0 else low)


def test_dreamtime_never_rises_and_lingers_where_its_weight_is_high():
    points = [float(draw(TimestepConfig("dreamtime"), i / 200, 1)) for i in range(201)]
    steps = -np.diff(points)
    assert (steps >= 0).all()
    middle = [s for s, t in zip(steps, points, strict=False) if 0.55 < t < 0.75]
    assert np.ptp(middle) < 1e-4 and max(middle) < steps[-1]


@pytest.mark.parametrize("policy", ["linear", "sqrt", "dreamtime"])
def test_jitter_spreads_around_the_point_and_stays_in_the_range(policy):
    plain = float(draw(TimestepConfig(policy, 0.1, 0.9), 0.5, 1))
    t = draw(TimestepConfig(policy, 0.1, 0.9, jitter=0.05), 0.5, 5000)
    assert (t - plain).abs().max() <= 0.05 + 1e-6
    assert abs(float(t.mean()) - plain) < 0.003 and t.std() == pytest.approx(0.1 / 12**0.5, rel=0.1)
    assert draw(TimestepConfig(policy, 0.1, 0.9, jitter=0.05), 0.0, 100).max() <= 0.9


@pytest.mark.parametrize("policy", ["uniform", "sqrt"])
def test_views_share_a_time_only_when_asked(policy):
    jitter = 0.0 if policy == "uniform" else 0.1
    own = draw(TimestepConfig(policy, jitter=jitter), 0.3, 6)
    shared = draw(TimestepConfig(policy, jitter=jitter, shared=True), 0.3, 6)
    assert len(own.unique()) == 6 and len(shared.unique()) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"t_min": 0.0},
        {"t_max": 1.0},
        {"t_max": Schedule(0.98, -0.1)},
        {"t_min": 0.7, "t_max": 0.6},
        {"t_min": Schedule(0.1, 0.6), "t_max": Schedule(0.9, 0.5)},
        {"jitter": -0.1, "policy": "linear"},
        {"jitter": 0.1},
    ],
)
def test_impossible_ranges_are_refused(options):
    with pytest.raises(ValueError, match=r"t_min|t_max|jitter"):
        TimestepConfig(**options)


@pytest.mark.parametrize("policy", ["uniform", "linear"])
def test_views_that_are_judged_together_share_a_time(policy):
    jitter = 0.0 if policy == "uniform" else 0.1
    config = TimestepConfig(policy=policy, jitter=jitter)
    t = sample_timesteps(config, 0.5, 12, torch.Generator().manual_seed(0), together=4)
    assert torch.equal(t, t[::4].repeat_interleave(4)) and len(set(t.tolist())) == 3
