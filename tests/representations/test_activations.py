"""Claims about density activations."""

import math

import torch
from torch.nn import functional

from dreamlab.representations.activations import density_activation, trunc_exp


def test_trunc_exp_is_exp_with_a_derivative_clamped_at_15():
    x = torch.tensor([-3.0, 0.0, 15.0, 16.0, 40.0], requires_grad=True)
    y = trunc_exp(x)
    assert torch.equal(y, torch.exp(x))
    y.sum().backward()
    expected = torch.tensor([math.exp(-3.0), 1.0, *[math.exp(15.0)] * 3])
    assert torch.allclose(x.grad, expected)


def test_trunc_exp_can_be_differentiated_twice():
    x = torch.linspace(-2, 2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(trunc_exp, (x,))
    assert torch.autograd.gradgradcheck(trunc_exp, (x,))


def test_activations_are_found_by_name():
    x = torch.randn(7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(density_activation("softplus")(x), functional.softplus(x))
    assert torch.equal(density_activation("trunc_exp")(x), x.exp())
