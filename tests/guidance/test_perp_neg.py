"""Perp-Neg against an explicit loop, and its weights against the formulas."""

import math

import pytest
import torch

from dreamlab.guidance.perp_neg import away_direction, away_weights


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("num_views", [1, 3])
@pytest.mark.parametrize("num_away", [0, 1, 2, 3])
def test_direction_equals_an_explicit_loop(num_views: int, num_away: int):
    positive, base = seeded(num_views, 4, 3, 3), seeded(num_views, 4, 3, 3, seed=1)
    away, weights = (
        seeded(num_views, num_away, 4, 3, 3, seed=2),
        seeded(num_views, num_away, seed=3),
    )
    expected = torch.zeros_like(positive)
    for i in range(num_views):
        ahead = positive[i] - base[i]
        for j in range(num_away):
            wrong = away[i, j] - base[i]
            share = (wrong * ahead).sum() / (ahead * ahead).sum()
            expected[i] += weights[i, j] * (wrong - share * ahead)
    torch.testing.assert_close(away_direction(positive, base, away, weights), expected)


def test_direction_never_moves_along_the_prompts_own_direction():
    positive, base = seeded(2, 4, 3, 3), seeded(2, 4, 3, 3, seed=1)
    direction = away_direction(positive, base, seeded(2, 2, 4, 3, 3, seed=2), seeded(2, 2, seed=3))
    along = (direction * (positive - base)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-10, rtol=0)


def test_a_prompt_without_direction_of_its_own_gives_finite_numbers():
    base = seeded(1, 4, 3, 3)
    direction = away_direction(base, base, seeded(1, 2, 4, 3, 3, seed=2), seeded(1, 2, seed=3))
    assert direction.isfinite().all()


@pytest.mark.parametrize("azimuth", [0, 30, 89.999, 90, 90.001, 120, 179, -45, -135, -180])
def test_weights_are_their_formulas(azimuth: float):
    turn = abs(azimuth)
    if turn <= 90:
        r = 1 - turn / 90
        front = -(4 * math.exp(-0.5 * r) - 2.426)
        side = -(4 * math.exp(-0.5 * (1 - r)) - 2.426)
    else:
        r = 2 - turn / 90
        front = -(math.exp(-0.5 * r) + 0.967)
        side = -(math.exp(-0.5 * r) - 0.606)
    found = away_weights(torch.tensor([azimuth]).double(), torch.tensor([False]))
    torch.testing.assert_close(found, torch.tensor([[front, side]]).double())


def test_weights_are_continuous_known_at_the_corners_and_zero_from_above():
    azimuth = torch.tensor([0.0, 90.0, 180.0, 90.0]).double()
    weights = away_weights(azimuth, torch.tensor([False, False, False, True]))
    expected = torch.tensor([[0, -1.574], [-1.574, 0], [-1.967, -0.394], [0, 0]]).double()
    torch.testing.assert_close(weights, expected, atol=1e-3, rtol=0)
    near = away_weights(torch.tensor([89.9999, 90.0001]), torch.tensor([False, False]))
    torch.testing.assert_close(near[0], near[1], atol=2e-3, rtol=0)
