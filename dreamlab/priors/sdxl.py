"""Stable Diffusion XL and its few-step students.

Two CLIP encoders; the U-Net reads their penultimate hidden states side by side, and beside the time
an embedding of

    pooled text of the second encoder, (h, w) original size, (top, left) crop, (h, w) target size

The sizes are those of the pictures that the model was made for and the crop is (0, 0), whatever
size is judged: they say "a picture that was large and whole" (a smaller original size would ask
for a blurred one).

The empty prompt is zeros where the model says so (`force_zeros_for_empty_prompt`), as it was
trained, not the embedding of no words.

Of a prompt in pieces the pooled text is that of the first (`long_prompts`).

Source: Podell et al., SDXL (2023), section 2.2.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.priors.autoencoder import Autoencoder
from dreamlab.priors.conditioning import pack, unpack
from dreamlab.priors.diffusion import (
    LoadOptions,
    load_autoencoder,
    load_network,
    square_side,
)
from dreamlab.priors.folder import read_json
from dreamlab.priors.noise_schedule import DiscreteSchedule, load_discrete_schedule
from dreamlab.priors.text_encoder import TextEncoder
from dreamlab.priors.unet import Told, UNetPrior, encode_pieces

SIZES = 6
"""Numbers of the micro-conditioning."""


class SDXLPrior(UNetPrior):
    """Autoencoder, U-Net with text and size conditions, two CLIP text encoders."""

    def __init__(
        self,
        options: LoadOptions,
        *,
        unet: Any,
        space: Autoencoder,
        texts: list[TextEncoder],
        schedule: DiscreteSchedule,
        prediction_type: str,
        pooled_width: int,
        empty_is_zero: bool,
    ) -> None:
        super().__init__(
            options,
            network=unet,
            space=space,
            texts=texts,
            schedule=schedule,
            prediction_type=prediction_type,
            native_size=square_side(unet.config.sample_size) * space.factor,
        )
        self._pooled_width, self._empty_is_zero = pooled_width, empty_is_zero
        side = self.native_size
        self._sizes = torch.tensor([[side, side, 0, 0, side, side]], device=self.device)

    def embed_pieces(self, pieces: list[list[str]]) -> Float[Tensor, "prompts rows features"]:
        first, second = (encode_pieces(text, pieces) for text in self.texts)
        assert second.pooled is not None
        packed = pack(torch.cat([first.tokens, second.tokens], dim=-1), second.pooled)
        if self._empty_is_zero:
            is_empty = torch.tensor([not prompt[0] for prompt in pieces], device=packed.device)
            packed = packed.masked_fill(is_empty[:, None, None], 0.0)
        return packed

    def told(self, conditioning: Float[Tensor, "batch rows features"]) -> Told:
        tokens, pooled = unpack(conditioning, self._pooled_width)
        sizes = self._sizes.expand(len(conditioning), -1).to(self.dtype)
        return Told(tokens, {"text_embeds": pooled, "time_ids": sizes})


def load(folder: Path, options: LoadOptions) -> SDXLPrior:
    """Load a model folder.

    Raises:
        InputError: the U-Net has other conditions than the base model's.
        MissingError: a file is missing or damaged.
    """
    texts = [
        TextEncoder(folder, options.device, number=number, layer="penultimate") for number in (1, 2)
    ]
    pooled_width = check_family(folder)
    schedule, prediction_type = load_discrete_schedule(folder, options.few_steps, options.device)
    index = read_json(folder / "model_index.json")
    return SDXLPrior(
        options,
        unet=load_network(folder, "unet", options),
        space=load_autoencoder(folder, options, heeds_upcast=True),
        texts=texts,
        schedule=schedule,
        prediction_type=prediction_type,
        pooled_width=pooled_width,
        empty_is_zero=bool(index.get("force_zeros_for_empty_prompt", True)),
    )


def check_family(folder: Path) -> int:
    """Return the width of the pooled text.

    Raises:
        InputError: the U-Net reads other sizes (a refiner) or other channels (inpainting).
    """
    unet = read_json(folder / "unet" / "config.json")
    vae = read_json(folder / "vae" / "config.json")
    pooled = read_json(folder / "text_encoder_2" / "config.json").get("projection_dim", 0)
    sizes = SIZES * (unet.get("addition_time_embed_dim") or 0)
    problem = None
    if unet.get("addition_embed_type") != "text_time":
        problem = "its U-Net has no text_time embedding"
    elif unet.get("projection_class_embeddings_input_dim") != pooled + sizes:
        problem = f"its U-Net does not read {SIZES} sizes and the pooled text (is it a refiner?)"
    elif unet.get("in_channels", 4) != vae.get("latent_channels", 4):
        problem = f"its U-Net reads {unet.get('in_channels')} channels, not the latents alone"
    if problem:
        raise InputError(
            f"{folder} is not a base model of Stable Diffusion XL: {problem}.",
            "choose a base model, such as sdxl.",
        )
    return pooled
