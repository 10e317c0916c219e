"""Stable Diffusion 3 and 3.5: rectified flows with three text encoders.

    tokens = [ CLIP_1 | CLIP_2 | 0 ... 0 ]      penultimate hidden states side by side, filled up
             [          T5               ]      below them
    pooled = [ CLIP_1 | CLIP_2 ]                projected pooled outputs

The transformer is told 1000 s, s the time of the flow. Without T5, whose folder may be left out
(then model_index.json says null), its rows are zeros, as in training.

Source: Esser et al., Scaling Rectified Flow Transformers (2024), sections 3 and B.3.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from dreamlab.priors.autoencoder import Autoencoder
from dreamlab.priors.base import Latents
from dreamlab.priors.conditioning import pack, unpack
from dreamlab.priors.diffusion import (
    DiffusionPrior,
    LoadOptions,
    load_autoencoder,
    load_network,
    square_side,
)
from dreamlab.priors.folder import index_parts
from dreamlab.priors.noise_schedule import FlowSchedule, NetworkTimes, load_flow_schedule
from dreamlab.priors.text_encoder import TextEncoder

T5_TOKENS = 256
TIMES = 1000


class SD3Prior(DiffusionPrior):
    """Autoencoder, transformer, two CLIP encoders and perhaps T5."""

    def __init__(
        self,
        options: LoadOptions,
        *,
        transformer: Any,
        space: Autoencoder,
        texts: list[TextEncoder],
        schedule: FlowSchedule,
    ) -> None:
        config = transformer.config
        super().__init__(
            options,
            network=transformer,
            space=space,
            texts=texts,
            schedule=schedule,
            prediction_type="flow",
            native_size=square_side(config.sample_size) * space.factor,
        )
        self._features: int = config.joint_attention_dim
        self._pooled_width: int = config.pooled_projection_dim

    def embed(self, prompts: list[str]) -> Float[Tensor, "prompts rows features"]:
        first, second, *t5 = (text.encode(prompts) for text in self.texts)
        assert first.pooled is not None and second.pooled is not None
        clip = torch.cat([first.tokens, second.tokens], dim=-1)
        clip = pad(clip, (0, self._features - clip.shape[-1]))
        rest = t5[0].tokens if t5 else clip.new_zeros(len(prompts), T5_TOKENS, self._features)
        pooled = torch.cat([first.pooled, second.pooled], dim=-1)
        return pack(torch.cat([clip, rest], dim=1), pooled)

    def output(
        self, noisy: Latents, time: NetworkTimes, conditioning: Float[Tensor, "batch rows features"]
    ) -> Latents:
        tokens, pooled = unpack(conditioning, self._pooled_width)
        return self.network(
            hidden_states=noisy,
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            timestep=TIMES * time,
            return_dict=False,
        )[0]


def load(folder: Path, options: LoadOptions) -> SD3Prior:
    """Load a model folder.

    Raises:
        InputError: a part is of another family.
        MissingError: a file is missing or damaged.
    """
    texts = [
        TextEncoder(folder, options.device, number=number, layer="penultimate") for number in (1, 2)
    ]
    if "text_encoder_3" in index_parts(folder):
        half = options.precision != torch.float32
        texts.append(
            TextEncoder(
                folder, options.device, number=3, max_tokens=T5_TOKENS, masked=False, half=half
            )
        )
    transformer = load_network(folder, "transformer", options)
    space = load_autoencoder(folder, options)
    size = options.image_size or square_side(transformer.config.sample_size) * space.factor
    num_tokens = (size // space.factor // transformer.config.patch_size) ** 2
    return SD3Prior(
        options,
        transformer=transformer,
        space=space,
        texts=texts,
        schedule=load_flow_schedule(folder, num_tokens, options.device),
    )
