"""DeepFloyd IF, first stage: diffusion of the pixels themselves, 64 x 64, with T5's tokens.

There is no autoencoder: z = 2 x - 1. The U-Net gives out six channels, the noise and a variance for
ancestral sampling; the second half is dropped here, as score distillation asks for the noise alone.
T5 reads 77 tokens, the filling ones hidden, of the prompt in small letters.

Source: Saharia et al., Imagen (2022), and DeepFloyd IF (2023) after it; learned variance: Nichol
and Dhariwal, Improved Denoising Diffusion Probabilistic Models (2021).
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.priors.autoencoder import Pixels
from dreamlab.priors.base import Latents
from dreamlab.priors.diffusion import DiffusionPrior, LoadOptions, load_network, square_side
from dreamlab.priors.folder import read_json
from dreamlab.priors.noise_schedule import NetworkTimes, load_discrete_schedule
from dreamlab.priors.text_encoder import TextEncoder

T5_TOKENS = 77


class DeepFloydPrior(DiffusionPrior):
    """U-Net on pixels, T5."""

    def embed(self, prompts: list[str]) -> Float[Tensor, "prompts rows features"]:
        return self.texts[0].encode([prompt.lower().strip() for prompt in prompts]).tokens

    def output(
        self, noisy: Latents, time: NetworkTimes, conditioning: Float[Tensor, "batch rows features"]
    ) -> Latents:
        output: Tensor = self.network(
            noisy, time, encoder_hidden_states=conditioning, return_dict=False
        )[0]
        return output[:, : self.latent_channels]


def load(folder: Path, options: LoadOptions) -> DeepFloydPrior:
    """Load a model folder.

    Raises:
        InputError: it is an upscaler of the family, or an autoencoder was asked for.
        MissingError: a file is missing or damaged.
    """
    unet = read_json(folder / "unet" / "config.json")
    if unet.get("in_channels") != Pixels.channels or unet.get("class_embed_type"):
        raise InputError(
            f"{folder} is not the first stage of DeepFloyd IF: its U-Net reads "
            f"{unet.get('in_channels')} channels and a class of {unet.get('class_embed_type')}.",
            "choose its first stage, such as if.",
        )
    if options.vae is not None:
        raise InputError(
            f"prior.vae is set, but {options.name} works on pixels.", "leave prior.vae out."
        )
    half = options.precision != torch.float32
    text = TextEncoder(folder, options.device, max_tokens=T5_TOKENS, masked=True, half=half)
    schedule, prediction_type = load_discrete_schedule(folder, options.few_steps, options.device)
    return DeepFloydPrior(
        options,
        network=load_network(folder, "unet", options),
        space=Pixels(),
        texts=[text],
        schedule=schedule,
        prediction_type=prediction_type,
        native_size=square_side(unet["sample_size"]),
    )
