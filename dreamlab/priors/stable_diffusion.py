"""Stable Diffusion 1.x and 2.x, their few-step students, and all saved in their layout.

The U-Net reads CLIP's last hidden states. That of a latent consistency model is told the guidance
scale that was distilled into it too, as an embedding e(1000 (s - 1)) of sines and cosines that is
added to the time's; s = 8.5 is what its authors use.

Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models (2022); Luo et
al., Latent Consistency Models (2023), whose c_skip and c_out differ from 0 and 1 by less than 1e-5
at its timesteps and are left out.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.priors.autoencoder import Autoencoder
from dreamlab.priors.diffusion import (
    LoadOptions,
    load_autoencoder,
    load_network,
    square_side,
)
from dreamlab.priors.folder import part_class, read_json
from dreamlab.priors.noise_schedule import DiscreteSchedule, load_discrete_schedule
from dreamlab.priors.text_encoder import TextEncoder
from dreamlab.priors.unet import Told, UNetPrior, encode_pieces

CONSISTENCY_GUIDANCE = 8.5
CONSISTENCY_STEPS = 50
"""Timesteps at which latent consistency models are trained."""
CONSISTENCY_MAX_GUIDANCE = 2.0


class StableDiffusionPrior(UNetPrior):
    """Autoencoder, U-Net with text cross-attention, CLIP text encoder."""

    def __init__(
        self,
        options: LoadOptions,
        *,
        unet: Any,
        space: Autoencoder,
        text: TextEncoder,
        schedule: DiscreteSchedule,
        prediction_type: str,
    ) -> None:
        self.text, self.unet, self.vae = text, unet, space.vae
        super().__init__(
            options,
            network=unet,
            space=space,
            texts=[text],
            schedule=schedule,
            prediction_type=prediction_type,
            native_size=square_side(unet.config.sample_size) * space.factor,
        )
        if (width := unet.config.time_cond_proj_dim) is not None:
            scale = options.embedded_guidance or CONSISTENCY_GUIDANCE
            self._guidance = guidance_embedding(scale, width).to(self.device, self.dtype)

    def embed_pieces(self, pieces: list[list[str]]) -> Float[Tensor, "prompts rows features"]:
        return encode_pieces(self.text, pieces).tokens

    def told(self, conditioning: Float[Tensor, "batch rows features"]) -> Told:
        return Told(conditioning, {})


def guidance_embedding(scale: float, width: int) -> Float[Tensor, "1 {width}"]:
    """Return [sin(w f_i), cos(w f_i)], w = 1000 (s - 1), f_i falling from 1 to 1e-4."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000.0) / (half - 1) * torch.arange(half))
    angles = 1000.0 * (scale - 1) * frequencies
    return torch.cat([angles.sin(), angles.cos()])[None]


def load(folder: Path, options: LoadOptions) -> StableDiffusionPrior:
    """Load a model folder; the text encoder is left on disk until a text must be encoded.

    Raises:
        InputError: the model is not of the Stable Diffusion 1.x or 2.x family.
        MissingError: a file is missing or damaged.
    """
    for part in ("vae", "unet"):
        part_class(folder, part)
    text = TextEncoder(folder, options.device)
    check_family(folder)
    if read_json(folder / "unet" / "config.json").get("time_cond_proj_dim") is not None:
        options = replace(
            options,
            few_steps=options.few_steps or CONSISTENCY_STEPS,
            max_guidance=options.max_guidance or CONSISTENCY_MAX_GUIDANCE,
        )
    space = load_autoencoder(folder, options)
    unet = load_network(folder, "unet", options)
    schedule, prediction_type = load_discrete_schedule(folder, options.few_steps, options.device)
    return StableDiffusionPrior(
        options,
        unet=unet,
        space=space,
        text=text,
        schedule=schedule,
        prediction_type=prediction_type,
    )


def check_family(folder: Path) -> None:
    """Refuse U-Nets that need more than noisy latents, a time and CLIP's tokens.

    Raises:
        InputError: it is an inpainting, upscaling or other conditioned model.
    """
    unet = read_json(folder / "unet" / "config.json")
    vae = read_json(folder / "vae" / "config.json")
    text = read_json(folder / "text_encoder" / "config.json")
    problem = None
    if unet.get("in_channels", 4) != vae.get("latent_channels", 4):
        problem = f"its U-Net reads {unet.get('in_channels')} channels, not the latents alone"
    # "text" pools the same tokens, so it wants nothing further
    elif unet.get("addition_embed_type") not in (None, "text") or unet.get("class_embed_type"):
        problem = "its U-Net wants further conditions (as those of SDXL and upscalers do)"
    elif unet.get("cross_attention_dim") != text.get("hidden_size"):
        problem = "its U-Net and its text encoder differ in width"
    elif not unet.get("sample_size"):
        problem = "its U-Net's config does not give sample_size"
    if problem:
        raise InputError(
            f"{folder} is not a Stable Diffusion 1.x or 2.x text-to-image model: {problem}.",
            "choose a model of that family, such as sd15 or sd21.",
        )
