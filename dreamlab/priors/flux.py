"""FLUX.1: a rectified flow on packed latents, with T5's tokens and CLIP's pooled output.

    z `[C h w]`  ->  patches `[h/2 w/2, 4 C]`, each 2 x 2 latents, with the row and column as its id

The transformer is told s, the time of the flow, and FLUX.1-dev the guidance scale that was
distilled into it (its authors use 3.5; with classifier-free guidance on top, as score distillation
has, 1 is the plain conditional model). FLUX.1-schnell has none, and is a student of four steps.

The schedule's shift grows with the number of patches (see `noise_schedule`).

Source: Black Forest Labs, FLUX.1 (2024), by its pipeline in diffusers; packing and ids as there.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.priors.autoencoder import Autoencoder
from dreamlab.priors.base import Latents
from dreamlab.priors.conditioning import pack, unpack
from dreamlab.priors.diffusion import (
    DiffusionPrior,
    LoadOptions,
    load_autoencoder,
    load_network,
)
from dreamlab.priors.noise_schedule import FlowSchedule, NetworkTimes, load_flow_schedule
from dreamlab.priors.text_encoder import TextEncoder

T5_TOKENS = 512
PATCH = 2
NATIVE_LATENTS = 128
"""Side of the latents that the model was made for; its files do not say."""
EMBEDDED_GUIDANCE = 3.5

Patches = Float[Tensor, "batch patches features"]


class FluxPrior(DiffusionPrior):
    """Autoencoder, transformer, CLIP and T5."""

    def __init__(
        self,
        options: LoadOptions,
        *,
        transformer: Any,
        space: Autoencoder,
        texts: list[TextEncoder],
        schedule: FlowSchedule,
    ) -> None:
        super().__init__(
            options,
            network=transformer,
            space=space,
            texts=texts,
            schedule=schedule,
            prediction_type="flow",
            native_size=NATIVE_LATENTS * space.factor,
        )
        self._pooled_width: int = transformer.config.pooled_projection_dim
        self._guidance: Tensor | None = None
        if transformer.config.guidance_embeds:
            scale = options.embedded_guidance or EMBEDDED_GUIDANCE
            self._guidance = torch.tensor([scale], device=self.device)
        self._places = patch_places(self.latent_size).to(self.device)

    def embed(self, prompts: list[str]) -> Float[Tensor, "prompts rows features"]:
        clip, t5 = (text.encode(prompts) for text in self.texts)
        assert clip.pooled is not None
        return pack(t5.tokens, clip.pooled)

    def output(
        self, noisy: Latents, time: NetworkTimes, conditioning: Float[Tensor, "batch rows features"]
    ) -> Latents:
        tokens, pooled = unpack(conditioning, self._pooled_width)
        guidance = self._guidance
        patches: Tensor = self.network(
            hidden_states=to_patches(noisy),
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            timestep=time,
            guidance=None if guidance is None else guidance.expand(len(noisy)),
            img_ids=self._places,
            txt_ids=self._places.new_zeros(tokens.shape[1], 3),
            return_dict=False,
        )[0]
        return to_latents(patches)


def to_patches(latents: Latents) -> Patches:
    """Pack 2 x 2 latents into one patch; its features are ordered channel, row, column."""
    cut = latents.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def to_latents(patches: Patches) -> Latents:
    """Undo `to_patches` for square latents."""
    side = round(patches.shape[1] ** 0.5)
    cut = patches.unflatten(1, (side, side)).unflatten(3, (-1, PATCH, PATCH))
    return cut.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def patch_places(latent_size: int) -> Float[Tensor, "patches 3"]:
    """Return (0, row, column) of each patch."""
    axis = torch.arange(latent_size // PATCH).float()
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1)


def load(folder: Path, options: LoadOptions) -> FluxPrior:
    """Load a model folder.

    Raises:
        InputError: a part is of another family.
        MissingError: a file is missing or damaged.
    """
    half = options.precision != torch.float32
    texts = [
        TextEncoder(folder, options.device),
        TextEncoder(
            folder, options.device, number=2, max_tokens=T5_TOKENS, masked=False, half=half
        ),
    ]
    space = load_autoencoder(folder, options)
    size = options.image_size or NATIVE_LATENTS * space.factor
    num_patches = (size // space.factor // PATCH) ** 2
    return FluxPrior(
        options,
        transformer=load_network(folder, "transformer", options),
        space=space,
        texts=texts,
        schedule=load_flow_schedule(folder, num_patches, options.device),
    )
