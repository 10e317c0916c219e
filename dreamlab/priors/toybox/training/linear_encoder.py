"""The encoder of the embedded prior, in closed form: principal components of 4x4 patches.

An image is cut into 4x4 patches p in [0, 1]^48. With m their mean and (l_k, e_k) the largest
eigenvalues and eigenvectors of their covariance over many renders, the latent of a patch is

    z_k = s l_k^(-1/4) e_k . (p - m),        k = 1..C

The exponent -1/4 whitens halfway: fine detail is neither drowned by the mean colour, as with plain
components, nor as loud as it, as with full whitening; s makes the mean variance of the channels 1.
The map is linear, so score distillation through it has an exact, well-conditioned gradient and no
autoencoder has to be trained before the diffusion model; the decoder is trained on its own.

It is written into the convolutions of a diffusers `AutoencoderTiny` without encoder blocks: one
that copies the colours, two of stride 2 that move 2x2 pixels into channels, one that projects.
Source: Karhunen-Loeve transform coding (Ahmed, Natarajan and Rao 1974 survey the family).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

PATCH = 4


@dataclass(frozen=True)
class PatchBasis:
    """An affine map of patches to latents: z = matrix (p - mean)."""

    mean: Float[Tensor, " patch"]
    matrix: Float[Tensor, "channels patch"]


def patches_of(images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "patches patch"]:
    """Cut images in [0, 1] into rows of 48 numbers, colour major, then row, then column."""
    return pixel_unshuffle(images, PATCH).permute(0, 2, 3, 1).reshape(-1, 3 * PATCH * PATCH)


def fit_basis(
    batches: Iterable[Float[Tensor, "_batch 3 height width"]], channels: int
) -> PatchBasis:
    """Compute the basis of the module docstring from batches of images in [0, 1]."""
    size = 3 * PATCH * PATCH
    count, total, square = 0, torch.zeros(size).double(), torch.zeros(size, size).double()
    for batch in batches:
        rows = patches_of(batch).double()
        count, total, square = count + len(rows), total + rows.sum(0), square + rows.T @ rows
    mean = total / count
    values, vectors = torch.linalg.eigh(square / count - torch.outer(mean, mean))
    values, vectors = values.flip(0)[:channels], vectors.flip(1)[:, :channels]
    scale = values.sqrt().mean().rsqrt()  # channel variances are s^2 l^(1/2)
    matrix = scale * values.pow(-0.25)[:, None] * vectors.T
    return PatchBasis(mean.float(), matrix.float())


@torch.no_grad()
def set_encoder(encoder: Any, basis: PatchBasis, scale: float = 1.0) -> None:
    """Write `scale` times the basis into an `AutoencoderTiny` encoder (width >= 48, no blocks)."""
    copy, first, second, project = encoder.layers
    for layer in encoder.layers:
        layer.weight.zero_()
    copy.bias.zero_()
    for color in range(3):
        copy.weight[color, color, 1, 1] = 1
    # after both folds, channel 4 (4 color + fold1) + fold2 holds row 2 y2 + y1, column 2 x2 + x1
    for y in range(2):
        for x in range(2):
            for channel in range(12):
                second.weight[4 * channel + 2 * y + x, channel, 1 + y, 1 + x] = 1
            for color in range(3):
                first.weight[4 * color + 2 * y + x, color, 1 + y, 1 + x] = 1
    order = torch.tensor(
        [
            color * PATCH * PATCH + (2 * y2 + y1) * PATCH + 2 * x2 + x1
            for color in range(3)
            for y1 in range(2)
            for x1 in range(2)
            for y2 in range(2)
            for x2 in range(2)
        ]
    )
    project.weight[:, : len(order), 1, 1] = scale * basis.matrix[:, order]
    project.bias.copy_(-scale * basis.matrix @ basis.mean)
