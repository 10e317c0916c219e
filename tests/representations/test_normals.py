"""Claims about gradients by differences."""

import pytest
import torch

from dreamlab.representations.normals import (
    central_gradient,
    downhill,
    tetrahedral_gradient,
)

POINTS = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SLOPE = torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64)


def curved(points):
    return (points * SLOPE).sum(-1) + (points**3).sum(-1) + points.prod(-1).sin()


def test_differences_are_exact_for_a_linear_field():
    for differences in (central_gradient, tetrahedral_gradient):
        gradient = differences(lambda x: x @ SLOPE, POINTS, 0.3)
        assert torch.allclose(gradient, SLOPE.expand_as(POINTS))


@pytest.mark.parametrize(
    ("differences", "order"), [(central_gradient, 2), (tetrahedral_gradient, 1)]
)
def test_differences_converge_to_the_analytic_gradient_at_their_order(differences, order):
    points = POINTS.clone().requires_grad_()
    (exact,) = torch.autograd.grad(curved(points).sum(), points)
    coarse, fine = ((differences(curved, POINTS, h) - exact).norm() for h in (1e-2, 1e-3))
    assert fine < coarse * 10**-order * 1.2
    assert fine < 1e-2


def test_normals_are_unit_vectors_downhill_with_bounded_derivatives():
    gradient = torch.tensor([[0.0, 0.0, 2.0], [3.0, 4.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    normal = downhill(gradient)
    expected = torch.tensor([[0.0, 0.0, -1.0], [-0.6, -0.8, 0.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(normal, expected, atol=1e-5)
    normal.sum().backward()
    assert (gradient.grad.abs() <= 1e3).all()
