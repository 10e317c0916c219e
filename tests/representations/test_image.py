"""Claims about pictures without an object, of pixels and of latents."""

import pytest
import torch

from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Latent, Picture, Representation
from dreamlab.representations import image, latent_image
from dreamlab.systems.components import find

SMALL = {"name": "latent_image", "channels": 3, "latent_size": 4, "size": 8}


def latents() -> latent_image.LatentImage:
    component = find("representations", SMALL)
    return component.module.build(component.config)


def double(z: torch.Tensor) -> torch.Tensor:
    """A decoder: every latent is two by two pixels."""
    return (z.repeat_interleave(2, 2).repeat_interleave(2, 3).permute(0, 2, 3, 1) + 1) / 2


def test_pixels_begin_grey_and_stay_colours():
    board = image.build(image.Config(size=6))
    assert isinstance(board, Picture) and isinstance(board, Representation)
    assert torch.equal(board.picture(), torch.full((6, 6, 3), 0.5))
    with torch.no_grad():
        board.theta.uniform_(-50, 50)
    assert board.picture().min() >= 0 and board.picture().max() <= 1
    board.picture().sum().backward()
    assert board.theta.grad is not None


def test_the_board_shows_its_front_to_the_front_view():
    board = image.build(image.Config(size=2))
    corners = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    with torch.no_grad():
        board.theta.copy_(torch.logit(corners)[..., None].expand(2, 2, 3))
    up, right = 0.5, 0.5  # pixel centres; seen from +x, y is to the right
    points = torch.tensor([[0, -right, up], [0, right, up], [0, -right, -up], [0, right, -up]])
    torch.testing.assert_close(board.color_at(points)[:, 0], torch.tensor([0.1, 0.2, 0.3, 0.4]))


def test_latents_show_what_their_decoder_makes_of_them():
    held = latents()
    assert isinstance(held, Latent | Picture) and isinstance(held, Representation)
    assert torch.equal(held.picture(), torch.full((8, 8, 3), 0.5)), "no decoder, nothing seen yet"
    held.connect(double)
    with torch.no_grad():
        held.latents.uniform_(-1, 1)
    torch.testing.assert_close(held.picture(), double(held.latents)[0])
    held.picture().sum().backward()
    assert held.latents.grad is not None and held.latents.grad.any()


def test_a_finished_picture_of_latents_can_be_shown_without_the_decoder():
    held, again = latents(), latents()
    held.connect(double)
    with torch.no_grad():
        held.latents.uniform_(-1, 1)
    held.set_progress(0.5)
    assert not torch.equal(held.shown, double(held.latents)[0])
    held.set_progress(1.0)
    again.load_state_dict(held.state_dict())
    torch.testing.assert_close(again.picture(), double(held.latents)[0].detach())


@pytest.mark.parametrize(
    "settings", [{"name": "image", "size": 0}, {"name": "latent_image", "channels": 0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError, match="at least 1"):
        find("representations", settings)
