"""Ways back through an encoder, against encoders whose Jacobian is known."""

import pytest
import torch
from analytic import GaussianPrior
from guided_views import as_render, cameras_at

from dreamlab.guidance.encoder_gradient import (
    dead_leaves,
    fit_linear,
    pool,
    with_latents,
    with_linear_backward,
)
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.sds import Config, build
from dreamlab.priors.base import Prior, resize_square

MATRIX = torch.tensor([[1.0, 0.5, 0.0], [0.2, -1.0, 0.3], [0.0, 0.4, 2.0]])
OFFSET = torch.tensor([0.1, -0.2, 0.3])


class Quarter(GaussianPrior):
    """Latents of a quarter of the picture's side: a matrix of the mean colours, plus detail."""

    def __init__(self, detail: float) -> None:
        super().__init__(lambda _: [0.1, 0.2, 0.3], image_size=16)
        self.detail = detail

    @property
    def latent_size(self) -> int:
        return self.image_size // 4

    def encode_image(self, images, generator):
        self.calls.append(("encode_image", len(images)))
        pixels = resize_square(images, self.image_size)
        corner = pixels[:, :, ::4, ::4] - pixels[:, :, 3::4, 3::4]
        mean = torch.einsum("ck,bkij->bcij", MATRIX, pool(images, self))
        return mean + OFFSET[:, None, None] + self.detail * corner.square()


def test_a_linear_encoder_is_found():
    fitted = fit_linear(Quarter(detail=0.0))
    torch.testing.assert_close(fitted.matrix, MATRIX, atol=1e-3, rtol=0)
    torch.testing.assert_close(fitted.offset, OFFSET, atol=1e-3, rtol=0)
    again = fit_linear(Quarter(detail=0.0))
    assert torch.equal(fitted.matrix, again.matrix), "a resumed run has the same matrix"


def test_the_linear_way_back_leaves_values_and_sends_the_matrix():
    prior = Quarter(detail=0.5)
    seen = with_linear_backward(prior)
    assert isinstance(seen, Prior)
    images = torch.rand(2, 16, 16, 3).requires_grad_(True)
    g = torch.randn(2, 3, 4, 4)
    latents = seen.encode_image(images, None)
    torch.testing.assert_close(latents, prior.encode_image(images, None))
    (found,) = torch.autograd.grad((latents * g).sum(), images)
    matrix = fit_linear(prior).matrix
    per_cell = torch.einsum("ck,bcij->bijk", matrix, g) / 16  # 4 x 4 pixels share a latent
    expected = per_cell.repeat_interleave(4, 1).repeat_interleave(4, 2)
    torch.testing.assert_close(found, expected)
    exact = torch.autograd.grad((prior.encode_image(images, None) * g).sum(), images)[0]
    assert (exact - found).abs().max() > 0.1


def test_through_a_linear_encoder_both_ways_back_are_one():
    prior = GaussianPrior(lambda _: [0.6, -0.2, 0.1])

    def gradient(prior: Prior) -> torch.Tensor:
        rgb = torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(1))
        rgb.requires_grad_(True)
        rule = build(Config(), prior, Prompts.encode(prior, "cat", "", PromptConfig(view="none")))
        generator = torch.Generator().manual_seed(2)
        rule(as_render(rgb), cameras_at([0, 90]), 0.0, generator).loss.backward()
        assert rgb.grad is not None
        return rgb.grad

    torch.testing.assert_close(
        gradient(with_linear_backward(prior)), gradient(prior), rtol=1e-3, atol=1e-3
    )


def test_an_encoder_that_knows_the_latents_returns_them_with_their_gradient():
    prior = GaussianPrior(lambda _: [0.0, 0.0, 0.0])
    z = torch.randn(1, 3, 8, 8, requires_grad=True)
    seen = with_latents(prior, lambda: z)
    assert isinstance(seen, Prior)
    latents = seen.encode_image(torch.rand(3, 8, 8, 3), torch.Generator())
    assert torch.equal(latents, z.expand(3, -1, -1, -1))
    latents.sum().backward()
    assert z.grad is not None and torch.equal(z.grad, torch.full_like(z, 3.0))
    assert prior.calls == [], "nothing is encoded"


@pytest.mark.parametrize("size", [16, 64])
def test_dead_leaves_are_flat_pieces_with_edges(size: int):
    picture = dead_leaves(size, torch.Generator().manual_seed(3))
    assert picture.shape == (size, size, 3)
    assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.1
    same = (picture.diff(dim=1) == 0).all(-1).float().mean()
    assert 0.3 < same < 0.99
