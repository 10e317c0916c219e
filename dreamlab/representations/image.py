"""A picture of free pixels: what a rule does when there is no object behind it.

    x_p = sigmoid(theta_p)      colours, sRGB

It begins grey, or as a given picture, whose middle square is resized. As a thing in the world it
is a board: the square |y|, |z| <= 1 in the plane x = 0, painted on the side that faces +x, which
the front view sees.

Glossary: `theta` one number a pixel and channel.
Source: image synthesis by score distillation as in DreamFusion (Poole et al. 2022), section 3.2.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

HALF_EXTENT = 1.0
DEEPEST = 0.01
"""Darkest value of a picture that is begun with, and distance of the brightest from 1: at the ends
themselves theta would be infinite, and close to them no gradient moves the colour."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the picture."""

    size: int = 64
    """Height and width, pixels."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")


class Image(nn.Module):
    """A picture; satisfies `Picture` and `Representation`. Gradients: colours to theta."""

    half_extent = HALF_EXTENT

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(config.size, config.size, 3))

    def picture(self) -> Float[Tensor, "side side 3"]:
        """Return the colours, sRGB in [0, 1]."""
        return self.theta.sigmoid()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the group "pixels"."""
        return {"pixels": [self.theta]}

    def set_progress(self, progress: float) -> None:
        """Do nothing: all pixels are free from the beginning."""

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return nothing: only the rule acts."""
        return {}

    @torch.no_grad()
    def adopt_picture(self, picture: Float[Tensor, "height width 3"]) -> None:
        """Begin with the middle square of a picture, sRGB in [0, 1]."""
        height, width, _ = picture.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = picture[top : top + side, left : left + side].permute(2, 0, 1)[None]
        size = self.theta.shape[:2]
        resized = interpolate(square, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
        self.theta.copy_(resized.clamp(DEEPEST, 1 - DEEPEST).logit())

    @torch.no_grad()
    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the colours of the board at the points' y and z."""
        return on_board(self.picture(), points)


def on_board(
    picture: Float[Tensor, "side side 3"], points: Float[Tensor, "points 3"]
) -> Float[Tensor, "points 3"]:
    """Look a picture up at world points, by their y (to the right) and z (up)."""
    place = points[:, 1:] * points.new_tensor([1.0, -1.0]) / HALF_EXTENT
    channels_first = picture.permute(2, 0, 1)[None]
    seen = grid_sample(
        channels_first, place[None, None], padding_mode="border", align_corners=False
    )
    return seen[0, :, 0].T


def build(config: Config, generator: torch.Generator | None = None) -> Image:
    """Make the picture; nothing in it is drawn."""
    return Image(config)
