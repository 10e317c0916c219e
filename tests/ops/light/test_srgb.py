"""Claims about the sRGB encoding."""

import pytest
import torch

from dreamlab.ops.light.srgb import KNEE, to_linear, to_srgb

VALUES = torch.linspace(0, 1, 1001, dtype=torch.float64)


def test_known_values():
    linear = torch.tensor([0.0, 0.0031308, 0.2140411, 1.0])
    expected = torch.tensor([0.0, 0.0404499, 0.5, 1.0])
    torch.testing.assert_close(to_srgb(linear), expected, atol=1e-6, rtol=0)


def test_decoding_undoes_encoding():
    torch.testing.assert_close(to_linear(to_srgb(VALUES)), VALUES, atol=1e-12, rtol=0)
    torch.testing.assert_close(to_srgb(to_linear(VALUES)), VALUES, atol=1e-12, rtol=0)


@pytest.mark.parametrize("convert", [to_linear, to_srgb])
def test_the_curve_rises_everywhere_with_finite_slope_even_at_black(convert):
    assert (convert(VALUES).diff() > 0).all()
    at = torch.tensor([0.0, 1e-5, KNEE - 1e-5, KNEE + 1e-5, 0.3, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(convert, at.requires_grad_(), eps=1e-7)
