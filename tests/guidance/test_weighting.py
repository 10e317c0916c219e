"""Every weighting is its formula."""

from typing import get_args

import pytest
import torch

from dreamlab.guidance.weighting import WEIGHTINGS, Weighting, weight

ALPHA = torch.tensor([0.999, 0.8, 0.1]).double()[:, None, None, None]
SIGMA = (1 - ALPHA**2).sqrt()


def test_the_names_are_those_of_the_table():
    assert set(get_args(Weighting)) == set(WEIGHTINGS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sds", 1 - ALPHA**2),
        ("uniform", torch.ones_like(ALPHA)),
        ("fantasia3d", ALPHA * (1 - ALPHA**2)),
        ("x0", ((1 - ALPHA**2) / ALPHA**2).sqrt()),
        ("inverse_variance", 1 / (1 - ALPHA**2)),
        ("flow", 1 + ((1 - ALPHA**2) / ALPHA**2).sqrt()),
    ],
)
def test_weight_is_its_formula(name, expected):
    torch.testing.assert_close(weight(name, ALPHA, SIGMA), expected)


def test_the_x0_weighting_is_an_unweighted_pull():
    torch.testing.assert_close(weight("x0", ALPHA, SIGMA) * ALPHA / SIGMA, torch.ones_like(ALPHA))


def test_the_flow_weighting_turns_a_residual_of_noise_into_one_of_velocities():
    eps, z, predicted = torch.randn(3, *ALPHA.shape, generator=torch.Generator().manual_seed(0))
    noisy = ALPHA * z + SIGMA * eps
    x0 = (noisy - SIGMA * predicted) / ALPHA
    residual = (predicted - x0) - (eps - z)
    torch.testing.assert_close(weight("flow", ALPHA, SIGMA) * (predicted - eps), residual)
