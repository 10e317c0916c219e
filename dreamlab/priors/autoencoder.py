"""Between pictures and what a denoiser works on: an autoencoder's latents, or the pixels.

    latents     z = (E(2 x - 1) - shift) scale,        x = (D(z / scale + shift) + 1) / 2
    pixels      z = 2 x - 1,                           x = (z + 1) / 2

Glossary: x a picture in [0, 1]; E, D encoder (mean or a sample of its posterior) and decoder; scale
and shift of the autoencoder's config; f = side of the picture / side of the latents.

Precision: float32 outside the autoencoder. SDXL's own autoencoder overflows in float16
(`force_upcast` in its config); it then runs in float32 beside a half-precision denoiser. A
mended one, such as madebyollin/sdxl-vae-fp16-fix, does not say so and runs in float16. Numbers of
float16 lie between 6e-8 and 65504, and a gradient may be any multiple of what a rule wants (weights
of losses, number of views). So it goes back through a float16 encoder as

    dL/dx = 1/c (dE/dx)^T (c dL/dz),        c = 2^-k,  2^(k-1) <= max |dL/dz| < 2^k,

which changes nothing but rounding: loss scaling, of each encoding by itself.

Memory: E is differentiated, so calls of it in parts save nothing unless each part is computed again
on the way back. `save_memory` does both: only one part's activations are there at a time.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dreamlab.priors.base import Latents

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny

Pictures = Float[Tensor, "batch 3 side side"]
TILES_PER_SIDE = 2
"""Into how many tiles a side is cut, the overlap of a quarter not counted."""
MAX_EXPONENT = 100
"""Of powers of two, so that they and their inverses are float32 numbers."""


@runtime_checkable
class Space(Protocol):
    """What a denoiser works on."""

    channels: int
    factor: int
    """f."""

    def encode(self, pictures: Pictures, generator: torch.Generator | None) -> Latents:
        """Map pictures in [0, 1] to float32 latents; differentiable.

        With a CPU generator they are a sample of the posterior if there is one, with None its
        mean.
        """
        ...

    def decode(self, latents: Latents) -> Pictures:
        """Map latents to pictures, float32, not clipped; differentiable."""
        ...


class Pixels:
    """No autoencoder: the pixels themselves in [-1, 1]."""

    channels, factor = 3, 1

    def encode(self, pictures: Pictures, generator: torch.Generator | None) -> Latents:
        return pictures.float() * 2 - 1

    def decode(self, latents: Latents) -> Pictures:
        return (latents.float() + 1) / 2


def channels_and_factor(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return channels of an autoencoder's latents, and pixels of one along a side."""
    blocks = config.get("block_out_channels") or config["encoder_block_out_channels"]
    return config["latent_channels"], 2 ** (len(blocks) - 1)


class Autoencoder:
    """The latents of an autoencoder of diffusers, which is frozen here."""

    def __init__(self, vae: "AutoencoderKL | AutoencoderTiny") -> None:
        self.vae: Any = vae.requires_grad_(False).eval()
        config = self.vae.config
        self.channels, self.factor = channels_and_factor(config)
        self._scale: float = config.scaling_factor
        self._shift: float = getattr(config, "shift_factor", None) or 0.0
        self._recomputes = False

    def encode(self, pictures: Pictures, generator: torch.Generator | None) -> Latents:
        """A tiny autoencoder has no posterior: with and without generator are the same."""
        seen = pictures.view_as(pictures)
        latents = self._encode(seen, generator)
        if self.vae.dtype == torch.float16 and latents.requires_grad:
            _scale_gradient(latents, seen)
        return latents

    def _encode(self, pictures: Pictures, generator: torch.Generator | None) -> Latents:
        encoded = self.vae.encode(pictures.to(self.vae.device, self.vae.dtype) * 2 - 1)
        if hasattr(encoded, "latents"):
            latents = encoded.latents.float()
        else:
            latents = encoded.latent_dist.mean.float()
            if generator is not None:
                noise = torch.randn(latents.shape, generator=generator).to(latents.device)
                latents = latents + encoded.latent_dist.std.float() * noise
        return (latents - self._shift) * self._scale

    def decode(self, latents: Latents) -> Pictures:
        scaled = (latents / self._scale + self._shift).to(self.vae.device, self.vae.dtype)
        images: Tensor = self.vae.decode(scaled).sample
        return (images.float() + 1) / 2

    def save_memory(self, image_size: int, *, slices: bool, tiles: bool) -> None:
        """Encode and decode one picture, or one tile of it, at a time.

        Args:
            image_size: side of the pictures.
            slices: one picture at a time; nothing changes but rounding.
            tiles: one tile at a time; values near the tiles' edges change a little.
        """
        if slices:
            self.vae.enable_slicing()
        if tiles:
            self.vae.enable_tiling()
            self.vae.tile_sample_min_size = image_size // TILES_PER_SIDE
            self.vae.tile_latent_min_size = image_size // TILES_PER_SIDE // self.factor
        if (slices or tiles) and not self._recomputes:
            self._recomputes = True
            encoder = self.vae.encoder
            forward = encoder.forward
            encoder.forward = lambda pixels: checkpoint(forward, pixels, use_reentrant=False)


def _scale_gradient(output: Tensor, source: Tensor) -> None:
    """Let the gradient between two float32 tensors be near 1 on its way from the one to the other.

    Args:
        output: where it comes in and is scaled; a function of `source` alone.
        source: where it comes out and gets its size back.
    """
    factors: list[Tensor] = []

    def enlarge(gradient: Tensor) -> Tensor:
        factors[:] = [_power_to_one(gradient)]
        return gradient * factors[0]

    output.register_hook(enlarge)
    source.register_hook(lambda gradient: gradient / factors[0])


def _power_to_one(values: Tensor) -> Float[Tensor, ""]:
    """Return the power of two that brings the largest value to [1/2, 1); 1 if there is none such.

    Of 0 and of what is not finite there is none.
    """
    largest = values.abs().amax()
    exponent = largest.frexp().exponent.clamp(-MAX_EXPONENT, MAX_EXPONENT)
    power = torch.ldexp(torch.ones_like(largest), -exponent)
    return torch.where(largest.isfinite() & (largest > 0), power, 1.0)
