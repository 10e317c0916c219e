"""Other ways back through the encoder of a latent diffusion model than its own Jacobian.

A rule asks for latents z = E(x) of a picture x and sends a gradient dL/dz back. The prior that it
is given decides what the picture gets of it:

    exact       dL/dx = (dE/dx)^T dL/dz                  the prior itself
    linear      dL/dx = (d(A P x)/dx)^T dL/dz            `with_linear_backward`
    latents     none: z is what is optimised, x = D(z)   `with_latents`

Glossary: E, D encoder and decoder; P averages the picture over the cell of each latent; A one fixed
matrix for all positions, `[C 3]`. A and b minimise sum |z_i - A (P x)_i - b|^2 + lambda |A|^2 over
the positions i of a few pictures. The linear way returns E(x) too: only the way back changes.

The pictures are dead leaves: opaque discs with radii of density r^-3 that hide one another, which
have the edges, flat parts and scale invariance of photographs. They need no data.

Source: linear approximation: Pan et al., Enhancing High-Resolution 3D Generation through
Pixel-wise Gradient Clipping (2024), which fits it to photographs; dead leaves: Lee, Mumford and
Huang, Occlusion Models for Natural Images (2001).
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from dreamlab.priors.base import Latents, Prior, resize_square

EncoderGradient = Literal["exact", "linear"]
FIT_PICTURES, FIT_SEED = 8, 0
RIDGE = 1e-3
"""lambda."""
NUM_LEAVES = 200
LEAF_RADII = (0.02, 0.5)
"""Smallest and largest radius, in sides of the picture."""


@dataclass(frozen=True)
class LinearEncoder:
    """z = A P x + b, position by position."""

    matrix: Float[Tensor, "channels 3"]
    offset: Float[Tensor, " channels"]

    def __call__(self, pooled: Float[Tensor, "batch 3 side side"]) -> Latents:
        """Map averaged colours to latents; differentiable."""
        mapped = torch.einsum("ck,bkij->bcij", self.matrix, pooled)
        return mapped + self.offset[:, None, None]


def with_linear_backward(prior: Prior) -> Prior:
    """Return the prior with the linear way back; its encoder is never differentiated."""
    linear = fit_linear(prior)

    def encode_image(images: Tensor, generator: torch.Generator | None) -> Latents:
        with torch.no_grad():
            exact = prior.encode_image(images, generator)
        approximate = linear(pool(images, prior).to(exact))
        return exact + (approximate - approximate.detach())

    return _with_encoder(prior, encode_image)


def with_latents(prior: Prior, latents: Callable[[], Float[Tensor, "1 c h w"]]) -> Prior:
    """Return the prior with an encoder that knows what the picture was decoded from.

    Args:
        prior: the diffusion model.
        latents: returns z; every picture that is to be encoded counts as D(z).
    """

    def encode_image(images: Tensor, generator: torch.Generator | None) -> Latents:
        return latents().expand(len(images), -1, -1, -1)

    other = _with_encoder(prior, encode_image)
    other.optimized_latents = latents  # type: ignore[attr-defined]
    return other


def optimized_latents(prior: Prior) -> Float[Tensor, "1 c h w"] | None:
    """Return the z of a prior of `with_latents`; None for any other prior."""
    latents = getattr(prior, "optimized_latents", None)
    return None if latents is None else latents()


def _with_encoder(
    prior: Prior, encode_image: Callable[[Tensor, torch.Generator | None], Latents]
) -> Prior:
    """Copy the prior, networks shared, with another `encode_image`."""
    other = copy(prior)
    other.encode_image = encode_image  # type: ignore[method-assign, assignment]
    return other


def pool(
    images: Float[Tensor, "batch height width 3"], prior: Prior
) -> Float[Tensor, "batch 3 side side"]:
    """Return P x: the colours averaged over the cell of each latent; differentiable."""
    return adaptive_avg_pool2d(resize_square(images, prior.image_size), prior.latent_size)


@torch.no_grad()
def fit_linear(prior: Prior) -> LinearEncoder:
    """Fit A and b to the prior's encoder; the same every time."""
    generator = torch.Generator().manual_seed(FIT_SEED)
    pictures = [dead_leaves(prior.image_size, generator) for _ in range(FIT_PICTURES)]
    colors, latents = [], []
    for picture in pictures:  # one at a time: an encoder for 1024 pixels needs gigabytes
        colors.append(pool(picture[None], prior)[0].flatten(1).T)
        latents.append(prior.encode_image(picture[None], None)[0].flatten(1).T)
    x, y = torch.cat(colors).double(), torch.cat(latents).double().cpu()
    centred, target = x - x.mean(0), y - y.mean(0)
    normal_matrix = centred.T @ centred + RIDGE * torch.eye(3, dtype=torch.float64)
    matrix = torch.linalg.solve(normal_matrix, centred.T @ target).T
    offset = y.mean(0) - matrix @ x.mean(0)
    return LinearEncoder(matrix.float().to(prior.device), offset.float().to(prior.device))


def dead_leaves(size: int, generator: torch.Generator) -> Float[Tensor, "{size} {size} 3"]:
    """Draw a picture of discs that hide one another, sRGB in [0, 1], uniform colours."""
    axis = (torch.arange(size) + 0.5) / size
    picture = torch.rand(3, generator=generator).repeat(size, size, 1)
    center, color = torch.rand(2, NUM_LEAVES, 3, generator=generator)
    low, high = (radius**-2.0 for radius in LEAF_RADII)
    uniform = torch.rand(NUM_LEAVES, generator=generator)
    radius = (low + uniform * (high - low)).rsqrt()  # density r^-3 between the two radii
    for i in range(NUM_LEAVES):
        distance = (axis[:, None] - center[i, 0]).square() + (axis - center[i, 1]).square()
        picture[distance < radius[i] ** 2] = color[i]
    return picture
