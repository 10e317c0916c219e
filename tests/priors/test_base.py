"""Whatever a network predicts, the three forms that come out are those of the true z and eps."""

import pytest
import torch
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.priors.base import CONVERSIONS, resize_square


def truth(path: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (5, 4, 3, 3)
    z = torch.randn(shape, generator=generator, dtype=torch.float64)
    eps = torch.randn(shape, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.02, 0.3, 0.5, 0.8, 0.97], dtype=torch.float64)[:, None, None, None]
    if path == "straight":
        alpha, sigma = 1 - t, t
    else:
        alpha, sigma = torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)
    return z, eps, alpha * z + sigma * eps, alpha, sigma


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("epsilon", "preserving"),
        ("v_prediction", "preserving"),
        ("sample", "preserving"),
        ("flow", "straight"),
        ("flow", "preserving"),
        ("epsilon", "straight"),
        ("sample", "straight"),
    ],
)
def test_a_perfect_output_converts_to_the_true_noise_image_and_velocity(kind: str, path: str):
    z, eps, noisy, alpha, sigma = truth(path)
    velocity = alpha * eps - sigma * z
    output = {"epsilon": eps, "v_prediction": velocity, "sample": z, "flow": eps - z}[kind]
    prediction = CONVERSIONS[kind](output, noisy, alpha, sigma)
    torch.testing.assert_close(prediction.eps, eps)
    torch.testing.assert_close(prediction.x0, z)
    torch.testing.assert_close(prediction.v, velocity)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
def test_an_imperfect_output_still_gives_forms_that_agree(kind: str):
    _, _, noisy, alpha, sigma = truth("preserving")
    output = torch.randn(
        noisy.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    prediction = CONVERSIONS[kind](output, noisy, alpha, sigma)
    torch.testing.assert_close(alpha * prediction.x0 + sigma * prediction.eps, noisy)
    torch.testing.assert_close(alpha * prediction.eps - sigma * prediction.x0, prediction.v)


def test_resizing_keeps_a_constant_image_and_carries_gradient():
    images = torch.full((2, 12, 12, 3), 0.25, requires_grad=True)
    for side in (6, 12, 20):
        resized = resize_square(images, side)
        assert resized.shape == (2, 3, side, side)
        torch.testing.assert_close(resized, torch.full_like(resized, 0.25))
    (gradient,) = torch.autograd.grad(resize_square(images, 6).sum(), images)
    assert (gradient > 0).all()


def test_renders_that_are_not_square_are_refused():
    with pytest.raises(InputError, match="8x6"):
        resize_square(torch.zeros(1, 6, 8, 3), 8)
