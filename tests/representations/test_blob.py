"""Claims about the density that a field starts with."""

import math

import pytest
import torch

from dreamlab.representations.blob import blob_bias, blob_gradient

ALONG_X = torch.tensor([[0.0, 0.0, 0.0], [0.25, 0.0, 0.0], [0.0, -0.5, 0.0], [0.0, 0.0, 1.0]])


def test_linear_blob_is_a_cone_that_changes_sign_at_its_radius():
    bias = blob_bias("linear", ALONG_X, 10.0, 0.5)
    assert torch.allclose(bias, torch.tensor([10.0, 5.0, 0.0, -10.0]), atol=1e-4)


def test_gaussian_blob_has_its_radius_as_standard_deviation():
    bias = blob_bias("gaussian", ALONG_X, 5.0, 0.25)
    expected = [5 * math.exp(-(r**2) / (2 * 0.25**2)) for r in (0, 0.25, 0.5, 1)]
    assert torch.allclose(bias, torch.tensor(expected))


def test_no_blob_is_zero():
    assert not blob_bias("none", ALONG_X, 10.0, 0.5).any()


@pytest.mark.parametrize("kind", ["gaussian", "linear", "none"])
def test_gradient_is_that_of_the_bias_also_at_the_centre(kind):
    points = torch.cat(
        [torch.zeros(1, 3), torch.randn(9, 3, generator=torch.Generator().manual_seed(0))]
    ).requires_grad_()
    bias = blob_bias(kind, points, 7.0, 0.4)
    gradient = blob_gradient(kind, points.detach(), 7.0, 0.4)
    if kind == "none":
        assert not gradient.any()
        return
    (expected,) = torch.autograd.grad(bias.sum(), points)
    assert torch.allclose(gradient, expected, atol=1e-4)
    assert not gradient[0].any()
