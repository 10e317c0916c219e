"""A picture as the latents of a diffusion model: the rule moves them without an encoder between.

    x = D(z)        clipped to [0, 1]

z begins at zero, the middle of the latents' distribution. The decoder D belongs to the prior and is
connected when training begins; `shown` keeps the picture of the last time it was looked at, so a
finished run can be shown without the prior.

Glossary: `z` latents `[1 C h w]`, in the scale in which the denoiser was trained.
Source: latent optimisation as in Latent-NeRF (Metzer et al. 2023), on a picture.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.representations.image import HALF_EXTENT, on_board

Decoder = Callable[[Float[Tensor, "1 c h w"]], Float[Tensor, "1 side side 3"]]


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the latents; they must be those of the prior."""

    channels: int = 12
    """C; 12 for the embedded prior, 4 for Stable Diffusion."""
    latent_size: int = 16
    """h = w; 16 for the embedded prior, 64 for Stable Diffusion at 512 pixels."""
    size: int = 64
    """Height and width of the decoded picture, pixels."""

    def __post_init__(self) -> None:
        if min(self.channels, self.latent_size, self.size) < 1:
            raise ValueError("channels, latent_size and size must be at least 1")


class LatentImage(nn.Module):
    """A decoded picture; satisfies `Picture`, `Latent` and `Representation`.

    Gradients: colours to the latents through the decoder; the latents themselves directly.
    """

    half_extent = HALF_EXTENT
    shown: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        shape = (1, config.channels, config.latent_size, config.latent_size)
        self.latents = nn.Parameter(torch.zeros(shape))
        self.register_buffer("shown", torch.full((config.size, config.size, 3), 0.5))
        self._decode: Decoder | None = None

    def connect(self, decode: Decoder) -> None:
        """Show the latents by this decoder from now on."""
        self._decode = decode

    def picture(self) -> Float[Tensor, "side side 3"]:
        """Return the decoded colours, sRGB in [0, 1]; without a decoder, those last seen."""
        if self._decode is None:
            return self.shown
        picture = self._decode(self.latents)[0].clamp(0, 1)
        self.shown.copy_(picture.detach())
        return picture

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the group "latents"."""
        return {"latents": [self.latents]}

    @torch.no_grad()
    def set_progress(self, progress: float) -> None:
        """Bring the picture up to date when the stage is over."""
        if progress == 1.0:
            self.picture()

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return nothing: only the rule acts."""
        return {}

    @torch.no_grad()
    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the colours of the board at the points' y and z."""
        return on_board(self.picture(), points)


def build(config: Config, generator: torch.Generator | None = None) -> LatentImage:
    """Make the latents; nothing in them is drawn."""
    return LatentImage(config)
