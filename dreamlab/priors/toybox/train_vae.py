"""Training of the autoencoder on fresh renders.

    L = |x - x'| + square (x - x')^2 + edge |grad x - grad x'| + kl KL(q(z|x) || N(0, 1))

with all as means over their elements, x' decoded from a sample of the posterior q. The edge
term (differences of neighbouring pixels) keeps silhouettes and patterns crisp; the weak KL term keeps
latents bounded and teaches the decoder to bear small errors of the diffusion. Afterwards latents are
normalised to mean 0 and deviation 1 per channel (`model.normalise_latents`).
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
from torch.nn.functional import l1_loss, mse_loss

from dreamlab.core.seeds import generator
from dreamlab.priors.toybox.checkpoint import load_checkpoint, save_checkpoint
from dreamlab.priors.toybox.dataset import render_samples
from dreamlab.priors.toybox.model import normalise_latents
from dreamlab.priors.toybox.muon import Muon
from dreamlab.priors.toybox.vae_start import start_encoder

Images = Float[Tensor, "batch 3 height width"]


@dataclass(frozen=True, slots=True)
class VaeConfig:
    """How the autoencoder is trained: on crops first, since those are cheap, then on whole images."""

    steps: int = 4000
    """Optimisation steps."""
    crop: int = 32
    """Side of the crops, pixels."""
    crop_share: float = 0.75
    """Fraction of the steps that train on crops."""
    crop_batch: int = 8
    """Crops per step."""
    batch: int = 4
    """Whole images per step."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW; cosine to zero after a warm-up."""
    muon_rate: float = 0.03
    """Peak learning rate of Muon, which moves the 3x3 convolutions; same course."""
    warm_up: float = 0.02
    """Fraction of the steps in which the learning rates rise."""
    square: float = 1.0
    """Weight of the squared error."""
    edge: float = 0.5
    """Weight of the edge term."""
    kl: float = 1e-4
    """Weight of the mean KL divergence per latent value."""


RENDERED = 32
"""Images that are rendered at a time; the next `RENDERED_STEPS` steps draw from them."""
RENDERED_STEPS = 16


def edge_loss(a: Images, b: Images) -> Float[Tensor, ""]:
    """Mean absolute difference of the horizontal and vertical neighbour differences."""
    difference = a - b
    return difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()


def psnr(a: Images, b: Images) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1], b clipped to the range."""
    error = ((a - b.clamp(-1, 1)) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * torch.log10(error.clamp(min=1e-10))).mean())


def vae_loss(
    vae: Any, images: Images, noise: torch.Generator, config: VaeConfig
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Return the loss of the module docstring and its parts."""
    posterior = vae.encode(images).latent_dist
    draw = torch.randn(posterior.mean.shape, generator=noise).to(images.device)
    decoded = vae.decode(posterior.mean + posterior.std * draw).sample
    pixel, edge = l1_loss(decoded, images), edge_loss(decoded, images)
    divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    square = mse_loss(decoded, images)
    loss = pixel + config.square * square + config.edge * edge + config.kl * divergence
    parts = {
        "loss": loss.item(),
        "pixel": pixel.item(),
        "edge": edge.item(),
        "kl": divergence.item(),
        "psnr": psnr(images, decoded.detach()),
    }
    return loss, parts


def cosine_rate(step: int, steps: int, warm_up: float) -> float:
    """Return the learning rate at a step as a fraction of its peak."""
    progress = (step + 1) / steps
    if progress < warm_up:
        return progress / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warm_up) / (1 - warm_up))


def make_optimizers(vae: nn.Module, config: VaeConfig) -> dict[str, torch.optim.Optimizer]:
    """Give the inner 3x3 convolutions to Muon, everything else to AdamW."""
    inner, outer = [], []
    for name, parameter in vae.named_parameters():
        is_inner = parameter.ndim == 4 and parameter.shape[-1] == 3 and ".conv_" not in name
        (inner if is_inner else outer).append(parameter)
    adam = torch.optim.AdamW(outer, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    return {"adam": adam, "muon": Muon(inner, config.muon_rate)}


def draw_images(rendered: Images, config: VaeConfig, *, seed: int, step: int) -> Images:
    """Draw the images or crops of a step among rendered images, a pure function of seed and step."""
    random = generator(seed, "vae batch", step)
    is_cropped = step < config.crop_share * config.steps
    size = config.crop if is_cropped else rendered.shape[-1]
    count = config.crop_batch if is_cropped else config.batch
    places = torch.randint(len(rendered), (count,), generator=random)
    margin = rendered.shape[-1] - size
    # objects stand in the middle: crops keep off the outermost pixels
    low, high = margin // 8, margin - margin // 8
    corners = torch.randint(low, high + 1, (count, 2), generator=random)
    return torch.stack(
        [
            rendered[place, :, y : y + size, x : x + size]
            for place, (y, x) in zip(places.tolist(), corners.tolist(), strict=True)
        ]
    )


def train_vae(
    vae: Any,
    path: Path,
    config: VaeConfig,
    *,
    seed: int,
    device: torch.device,
    on_step: Callable[[int, dict[str, float]], None],
    checkpoint_every: int = 200,
) -> dict[str, Any]:
    """Train `vae` in place, resuming from `path` if it exists; normalise the latents at the end.

    Returns:
        the record of the finished checkpoint: `step`, `seconds`, `is_finished`.
    """
    size = int(vae.config.sample_size)
    vae.to(device)
    optimizers = make_optimizers(vae, config)
    record: dict[str, Any] = {"step": 0, "seconds": 0.0, "is_finished": False}
    if path.is_file():
        record = load_checkpoint(path, {"vae": vae}, optimizers)
    else:
        start_encoder(vae, render_samples(seed, "components", 0, 128, size).images.to(device))
    rendered, first = torch.zeros(0), record["step"]
    before, began = record["seconds"], time.monotonic()
    for step in range(first, config.steps if not record["is_finished"] else 0):
        if step % RENDERED_STEPS == 0 or step == first:
            index = step // RENDERED_STEPS
            rendered = render_samples(seed, "vae", index, RENDERED, size).images
        images = draw_images(rendered, config, seed=seed, step=step).to(device)
        rate = cosine_rate(step, config.steps, config.warm_up)
        for name, peak in (("adam", config.learning_rate), ("muon", config.muon_rate)):
            optimizers[name].param_groups[0]["lr"] = peak * rate
            optimizers[name].zero_grad()
        loss, parts = vae_loss(vae, images, generator(seed, "vae noise", step), config)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
        record["step"], record["seconds"] = step + 1, before + time.monotonic() - began
        on_step(step, parts)
        if (step + 1) % checkpoint_every == 0 and step + 1 < config.steps:
            save_checkpoint(path, {"vae": vae}, optimizers, record)
    if not record["is_finished"]:
        normalise_latents(vae, *latent_statistics(vae, seed, device))
        record["is_finished"] = True
        save_checkpoint(path, {"vae": vae}, optimizers, record)
    return record


@torch.no_grad()
def latent_statistics(
    vae: Any, seed: int, device: torch.device, count: int = 512
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Return mean and deviation of the latents' channels over fresh renders."""
    size, chunk = int(vae.config.sample_size), min(count, 64)
    latents = torch.cat(
        [
            vae.encode(
                render_samples(seed, "statistics", index, chunk, size).images.to(device)
            ).latent_dist.mean
            for index in range(count // chunk)
        ]
    )
    return latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
