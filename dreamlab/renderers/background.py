"""What is behind the object.

- solid: one colour for all views.
- random: per view, one colour drawn uniformly, or (with the rest of the probability) the solid
  colour. A background that never changes invites the field to paint it on a shell.
- learned: per view, a drawn colour, or a small network of the ray's direction that is optimised
  with the field.

`shared` draws once for all views of a step, for priors that judge them as one.

Evaluation shows the solid colour or the learned one. All colours are sRGB in [0, 1].
Source: learned background: DreamFusion (Poole et al. 2022); random replacement: common practice
since, against hollow objects.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

NUM_BANDS = 3
"""Sines and cosines of the direction at frequencies 1, 2, 4: smooth backgrounds only."""


@dataclass(frozen=True, slots=True)
class BackgroundConfig:
    """Settings of the background."""

    name: Literal["solid", "random", "learned"] = "random"
    """Kind of background."""
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Solid colour, sRGB in [0, 1]; also what evaluation shows instead of random ones."""
    random_probability: float = 0.5
    """For random and learned: chance that a training view gets a drawn colour."""
    shared: bool = False
    """For random and learned: all views of a step get the same drawn colour, or none does."""
    random_low: float = 0.0
    """Least value of the channels of drawn colours; priors know some backgrounds better than
    others."""
    hidden_width: int = 16
    """For learned: width of the network's hidden layer."""

    def __post_init__(self) -> None:
        if not all(0 <= channel <= 1 for channel in self.color):
            raise ValueError(f"color must be three numbers in [0, 1], got {self.color}")
        if not 0 <= self.random_probability <= 1:
            raise ValueError(f"random_probability must be in [0, 1], got {self.random_probability}")
        if not 0 <= self.random_low < 1:
            raise ValueError(f"random_low must be in [0, 1), got {self.random_low}")
        if self.hidden_width < 1:
            raise ValueError(f"hidden_width must be at least 1, got {self.hidden_width}")


class Background(nn.Module):
    """Gives every ray a colour."""

    color: Tensor

    def __init__(self, config: BackgroundConfig, generator: torch.Generator | None = None) -> None:
        """Build it; `generator` (CPU) draws the initial weights of a learned background."""
        super().__init__()
        self.config = config
        self.register_buffer("color", torch.tensor(config.color), persistent=False)
        self.network: nn.Module | None = None
        if config.name == "learned":
            last = nn.Linear(config.hidden_width, 3)
            nn.init.zeros_(last.weight)
            with torch.no_grad():
                last.bias.copy_(torch.logit(self.color, eps=0.05))
            first = nn.Linear(3 + 6 * NUM_BANDS, config.hidden_width)
            bound = first.in_features**-0.5
            nn.init.uniform_(first.weight, -bound, bound, generator)
            nn.init.zeros_(first.bias)
            self.network = nn.Sequential(first, nn.ReLU(), last, nn.Sigmoid())

    def forward(
        self,
        directions: Float[Tensor, "batch height width 3"],
        *,
        generator: torch.Generator | None,
        training: bool,
    ) -> Float[Tensor, "batch height width 3"]:
        """Return the colour behind every pixel.

        Args:
            directions: unit vectors along the rays, world space.
            generator: CPU generator, used in training only; every kind advances it equally.

        Gradients: to the parameters of a learned background, in views that show it.
        """
        if self.network is None:
            behind = self.color.expand_as(directions)
        else:
            behind = self.network(encode_direction(directions))
        if not training:
            return behind
        num_views = len(directions)
        drawn = torch.rand(num_views, 1, 1, 3, generator=generator).to(directions)
        color = self.config.random_low + (1 - self.config.random_low) * drawn
        u = torch.rand(num_views, 1, 1, 1, generator=generator).to(directions)
        if self.config.name == "solid":
            return behind
        if self.config.shared:
            color, u = color[:1], u[:1]
        return torch.where(u < self.config.random_probability, color, behind)


def encode_direction(directions: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape encoding"]:
    """Return d, and sin and cos of 2^k d for k below `NUM_BANDS`."""
    frequencies = 2.0 ** torch.arange(NUM_BANDS, device=directions.device, dtype=directions.dtype)
    angles = (directions[..., None] * frequencies).flatten(-2)
    return torch.cat([directions, angles.sin(), angles.cos()], dim=-1)
