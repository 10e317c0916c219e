"""A start for the autoencoder: an encoder that is linear, with the principal components of patches.

From random weights a small encoder needs thousands of steps before its latents carry edges. Here the
encoder begins as the best linear one: latent k at a cell is the k-th principal component of the 4x4
pixels below it, with deviation 1. Everything stays trainable.

How an `AutoencoderKL` encoder of three levels is made linear: the residual branches end in zeros;
the strided convolutions gather 2x2 pixels into channels, twice; before the last group norm the
unused channels hold the constants +K and -K, which fix the norm's deviation, so that it is nearly an
identity; a bias moves the values onto the straight part of SiLU and is taken off afterwards.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

CONSTANT = 4.0
"""K: large beside latents of deviation 1."""
SHIFT = 6.0
"""Where SiLU is straight."""
START_LOG_VARIANCE = -6.0


def principal_components(
    images: Float[Tensor, "batch 3 height width"], count: int, side: int = 4
) -> tuple[Float[Tensor, "count 3 side side"], Float[Tensor, " count"]]:
    """Return the first principal components of patches, scaled to deviation 1, and their means."""
    patches = pixel_unshuffle(images, side).permute(0, 2, 3, 1).flatten(0, 2).double()
    mean = patches.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
    basis = vectors[:, -count:].flip(1).T / values[-count:].flip(0).sqrt()[:, None]
    return basis.float().reshape(count, 3, side, side), (basis @ mean).float()


@torch.no_grad()
def start_encoder(vae: Any, images: Float[Tensor, "batch 3 height width"]) -> None:
    """Set the encoder of an untrained three-level `AutoencoderKL` to the linear one, in place.

    Args:
        vae: with one norm group, widths that grow from level to level: at least 12, 12 and more than C
            (C latent channels).
        images: in [-1, 1]; the components are theirs.
    """
    channels = int(vae.config.latent_channels)
    encoder = vae.encoder
    basis, offset = principal_components(images, channels)
    blocks = list(encoder.down_blocks)
    for block in (*blocks, encoder.mid_block):
        for resnet in block.resnets:
            nn.init.zeros_(resnet.conv2.weight)
            nn.init.zeros_(resnet.conv2.bias)
    _keep(encoder.conv_in, 3)
    _gather(blocks[0].downsamplers[0].conv, torch.eye(12).reshape(12, 3, 2, 2))
    _keep(blocks[1].resnets[0].conv_shortcut, 12)
    # a 4x4 patch is 2x2 blocks (outer) of 2x2 pixels (inner); channels are (colour, inner y, x)
    nested = basis.reshape(channels, 3, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4)
    _gather(blocks[1].downsamplers[0].conv, nested.reshape(channels, 12, 2, 2))
    last = blocks[2].resnets[0].conv_shortcut
    _keep(last, channels)
    last.weight[channels:] = 0
    last.bias[:channels] = -offset
    last.bias[channels::2] = CONSTANT
    last.bias[channels + 1 :: 2] = -CONSTANT
    _finish(vae, channels)


def _finish(vae: Any, channels: int) -> None:
    """Set the last norm, the last convolution and the one around the latents."""
    norm, out, quant = vae.encoder.conv_norm_out, vae.encoder.conv_out, vae.quant_conv
    width = norm.num_channels
    norm.weight[:channels] = CONSTANT * ((width - channels) / width) ** 0.5
    norm.bias[:channels] = SHIFT
    nn.init.zeros_(out.weight)
    out.weight[range(channels), range(channels), 1, 1] = 1
    out.bias[:channels] = -SHIFT
    out.bias[channels:] = START_LOG_VARIANCE
    nn.init.zeros_(quant.bias)
    quant.weight.copy_(torch.eye(2 * channels)[:, :, None, None])


def _keep(conv: nn.Conv2d, count: int) -> None:
    """Make the first `count` outputs equal to the first `count` inputs."""
    assert conv.bias is not None
    middle = conv.kernel_size[0] // 2
    conv.weight[:count] = 0
    conv.weight[range(count), range(count), middle, middle] = 1
    conv.bias[:count] = 0


def _gather(conv: nn.Conv2d, weight: Float[Tensor, "outputs inputs 2 2"]) -> None:
    """Make the first outputs of a 3x3 convolution with stride 2 linear in its 2x2 cells."""
    assert conv.bias is not None
    outputs, inputs = weight.shape[:2]
    conv.weight[:outputs] = 0
    conv.weight[:outputs, :inputs, :2, :2] = weight
    conv.bias[:outputs] = 0
