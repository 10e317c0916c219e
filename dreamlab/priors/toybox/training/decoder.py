"""Training of the decoder: latents of the fixed linear encoder back to images.

    L = |x - D(z + tau n)| + edge |grad x - grad D(z + tau n)|,     z = E(x),  n ~ N(0, 1)

as means over pixels. The encoder keeps the principal components of 4x4 patches (`linear_encoder`);
what it drops along edges and patterns the decoder puts back from the neighbourhood. The edge term
(differences of neighbouring pixels) keeps silhouettes crisp, and the noise tau teaches the decoder
to bear the small errors of a diffusion model. Training sees crops: decoding is local.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from dreamlab.core.seeds import generator
from dreamlab.priors.toybox.training.checkpoint import load_checkpoint, save_checkpoint
from dreamlab.priors.toybox.training.dataset import render_samples
from dreamlab.priors.toybox.training.linear_encoder import PATCH, fit_basis, set_encoder

Images = Float[Tensor, "batch 3 height width"]


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """How the decoder is trained."""

    steps: int = 3000
    """Optimisation steps."""
    batch: int = 32
    """Crops per step."""
    crop: int = 32
    """Side of the crops, pixels; a multiple of four."""
    learning_rate: float = 2e-3
    """Peak learning rate; cosine to zero after a warm-up of 3 %."""
    edge: float = 0.5
    """Weight of the edge term."""
    noise: float = 0.1
    """tau, in units of the diffusion's latents."""
    images_for_basis: int = 3072
    """Renders from which the encoder's components are computed."""


def edge_loss(a: Images, b: Images) -> Float[Tensor, ""]:
    """Mean absolute difference of the horizontal and vertical neighbour differences."""
    difference = a - b
    return difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()


def psnr(a: Images, b: Images) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1], b clipped to the range."""
    error = ((a - b.clamp(-1, 1)) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * torch.log10(error.clamp(min=1e-10))).mean())


def fit_encoder(vae: Any, seed: int, *, size: int, num_images: int) -> None:
    """Set the encoder of `vae` from fresh renders; see `linear_encoder`."""
    chunk = 64
    renders = (
        render_samples(seed, "basis", index, chunk, size).images / 2 + 0.5
        for index in range(math.ceil(num_images / chunk))
    )
    basis = fit_basis(renders, int(vae.config.latent_channels))
    set_encoder(vae.encoder, basis, scale=1 / vae.config.scaling_factor)


def cosine_rate(step: int, steps: int, warm_up: float = 0.03) -> float:
    """Return the learning rate at a step as a fraction of its peak."""
    progress = (step + 1) / steps
    if progress < warm_up:
        return progress / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warm_up) / (1 - warm_up))


def draw_crops(
    images: Images, side: int, random: torch.Generator
) -> Float[Tensor, "batch 3 {side} {side}"]:
    """Cut one square from every image, at a random multiple of the patch size."""
    cells = (images.shape[-1] - side) // PATCH + 1
    corners = torch.randint(cells, (len(images), 2), generator=random) * PATCH
    return torch.stack(
        [
            image[:, y : y + side, x : x + side]
            for image, (y, x) in zip(images, corners.tolist(), strict=True)
        ]
    )


def decoder_loss(
    vae: Any, images: Images, random: torch.Generator, config: DecoderConfig
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Return the loss of the module docstring and its parts."""
    with torch.no_grad():
        latents = vae.encode(images).latents
    noise = torch.randn(latents.shape, generator=random).to(latents.device)
    decoded = vae.decode(latents + config.noise / vae.config.scaling_factor * noise).sample
    pixel, edge = l1_loss(decoded, images), edge_loss(decoded, images)
    loss = pixel + config.edge * edge
    parts = {"loss": loss, "pixel": pixel, "edge": edge}
    values = {name: value.item() for name, value in parts.items()}
    return loss, values | {"psnr": psnr(images, decoded.detach())}


def train_decoder(
    vae: nn.Module,
    path: Path,
    config: DecoderConfig,
    *,
    seed: int,
    size: int,
    device: torch.device,
    on_step: Callable[[int, dict[str, float]], None],
    checkpoint_every: int = 200,
) -> dict[str, Any]:
    """Train the decoder of `vae` in place, resuming from `path` if it exists.

    Args:
        vae: an `AutoencoderTiny` whose encoder is set.
        path: of the checkpoint.
        config: how to train.
        seed: of the images, crops and noise.
        size: side of the rendered images, pixels.
        device: where to train.
        on_step: is told every step and its losses.
        checkpoint_every: steps between two checkpoints.

    Returns:
        the record of the last checkpoint: `step`, `seconds`, `is_finished`.
    """
    vae.to(device)
    parameters = list(vae.decoder.parameters())  # type: ignore[union-attr]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
    )
    record: dict[str, Any] = {"step": 0, "seconds": 0.0, "is_finished": False}
    if path.is_file():
        record = load_checkpoint(path, {"vae": vae}, {"adam": optimizer})
    before, began = record["seconds"], time.monotonic()
    for step in range(record["step"], config.steps):
        # a rendered batch serves four steps with other crops and noise: rendering costs more
        images = render_samples(seed, "decoder", step // 4, config.batch, size).images
        random = generator(seed, "decoder crops", step)
        crops = draw_crops(images, config.crop, random).to(device)
        optimizer.param_groups[0]["lr"] = config.learning_rate * cosine_rate(step, config.steps)
        loss, parts = decoder_loss(vae, crops, random, config)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        done = step + 1 == config.steps
        seconds = before + time.monotonic() - began
        record = {"step": step + 1, "seconds": seconds, "is_finished": done}
        on_step(step, parts)
        if done or (step + 1) % checkpoint_every == 0:
            save_checkpoint(path, {"vae": vae}, {"adam": optimizer}, record)
    return record
