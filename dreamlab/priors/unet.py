"""What Stable Diffusion and SDXL share: a U-Net on latents that reads text by cross-attention.

    y = [ CLIP(piece_1); ...; CLIP(piece_n) ]                long prompts (`long_prompts`)
    o = U(z_t, t, y, [image]; sum_k s_k C_k(z_t, t, y, c_k))

Glossary: U the U-Net, y what it reads of a prompt; C_k ControlNets, c_k pictures of what is seen
and s_k their strengths (`controlnet`); [image] the tokens of a picture that speaks beside the
prompt (`image_prompt`). Other letters: `base`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.priors.base import Latents, Prediction, in_parts
from dreamlab.priors.conditioning import unpack
from dreamlab.priors.controlnet import Control, residuals
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.image_prompt import SIGHT, ImageEmbeddings, heard
from dreamlab.priors.long_prompts import split_prompt
from dreamlab.priors.noise_schedule import NetworkTimes
from dreamlab.priors.text_encoder import Encoded, TextEncoder


@dataclass(frozen=True, slots=True)
class Told:
    """What the network is told beside noisy latents and time."""

    tokens: Float[Tensor, "batch tokens features"]
    added: dict[str, Any]
    """Further conditions of the family, under diffusers' names; ControlNets hear them too."""
    labels: Float[Tensor, "batch numbers"] | None = None
    """What the embedding of classes reads, if the U-Net has one."""


class UNetPrior(DiffusionPrior):
    """A prior whose denoiser can be steered by ControlNets and by an image prompt."""

    controls: dict[str, Any]
    """ControlNets that were loaded, by the name that stages call them."""
    image: ImageEmbeddings | None
    """The image prompt, if the denoiser has an adapter for one."""
    _guidance: Float[Tensor, "1 width"] | None = None
    """Embedding of a guidance scale that was distilled into the network."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.controls, self.image = {}, None

    @abstractmethod
    def embed_pieces(self, pieces: list[list[str]]) -> Float[Tensor, "prompts rows features"]:
        """Embed prompts that are given in pieces, as many for each.

        Args:
            pieces: of each prompt; the first one of the empty prompt is empty.
        """

    @abstractmethod
    def told(self, conditioning: Float[Tensor, "batch rows features"]) -> Told:
        """Take apart what `embed_pieces` returned, or a mixture of it."""

    def embed(self, prompts: list[str]) -> Float[Tensor, "prompts rows features"]:
        return self.embed_pieces(self._in_pieces(prompts, 1))

    def encode_text(
        self, prompts: list[str], pieces: int = 1
    ) -> Float[Tensor, "prompts tokens features"]:
        """Embed prompts, in as many pieces as the longest needs, and at least in `pieces`."""
        return self.embed_pieces(self._in_pieces(prompts, pieces))

    def num_pieces(self, prompts: Sequence[str]) -> int:
        """Return how many pieces the longest of the prompts needs."""
        return max((len(self._split(prompt)) for prompt in prompts), default=1)

    def warn_if_cut(self, prompts: list[str]) -> None:
        """Nothing is cut."""

    def _in_pieces(self, prompts: list[str], at_least: int) -> list[list[str]]:
        split = [self._split(prompt) for prompt in prompts]
        count = max(at_least, *(len(pieces) for pieces in split))
        return [pieces + [""] * (count - len(pieces)) for pieces in split]

    def _split(self, prompt: str) -> list[str]:
        return split_prompt(prompt, lambda text: all(encoder.fits(text) for encoder in self.texts))

    @torch.no_grad()
    def predict(
        self,
        noisy: Latents,
        t: Float[Tensor, " batch"],
        conditioning: Float[Tensor, "batch tokens features"],
        control: Control | None = None,
    ) -> Prediction:
        """Denoise, without gradient; with `control`, what ControlNets see steers it."""
        if control is None:
            return super().predict(noisy, t, conditioning)

        def denoise(noisy: Tensor, t: Tensor, conditioning: Tensor, pictures: Tensor) -> Prediction:
            steered = partial(self.output, control=replace(control, pictures=pictures))
            return self.denoised_by(steered, noisy, t, conditioning)

        return in_parts(denoise, self.max_rows, noisy, t, conditioning, control.pictures)

    def output(
        self,
        noisy: Latents,
        time: NetworkTimes,
        conditioning: Float[Tensor, "batch rows features"],
        control: Control | None = None,
    ) -> Latents:
        of_image: dict[str, Any] = {}
        hearing: AbstractContextManager[None] = nullcontext()
        if self.image is not None:
            conditioning, seen = unpack(conditioning, SIGHT)
            sight, scale = seen.split(1, dim=1)
            of_image = {"image_embeds": [self.image.seen(sight)]}
            hearing = heard(self.network, scale)
        told = self.told(conditioning)
        steer: dict[str, Any] = {}
        if control is not None:
            down, middle = residuals(
                self.controls, control, noisy, time, told.tokens, added=told.added
            )
            steer = {
                "down_block_additional_residuals": down,
                "mid_block_additional_residual": middle,
            }
        guidance = self._guidance
        with hearing:
            return self.network(
                noisy,
                time,
                encoder_hidden_states=told.tokens,
                class_labels=told.labels,
                timestep_cond=None if guidance is None else guidance.expand(len(noisy), -1),
                added_cond_kwargs=told.added | of_image,
                return_dict=False,
                **steer,
            )[0]


def encode_pieces(text: TextEncoder, pieces: list[list[str]]) -> Encoded:
    """Encode prompts piece by piece.

    Returns:
        The tokens of a prompt's pieces one after another, and what pools its first piece.
    """
    encoded = text.encode([piece for prompt in pieces for piece in prompt])
    tokens = encoded.tokens.unflatten(0, (len(pieces), -1)).flatten(1, 2)
    pooled = encoded.pooled
    return Encoded(tokens, None if pooled is None else pooled.unflatten(0, (len(pieces), -1))[:, 0])
