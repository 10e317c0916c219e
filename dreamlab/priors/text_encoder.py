"""A text encoder of a model folder, CLIP or T5, loaded only when a text must be encoded.

It runs once per prompt, then leaves memory. CLIP always runs in float32, and embeddings so made
serve every precision of the denoiser. T5 has billions of weights: beside a denoiser in half
precision it runs in bfloat16 (it overflows in float16), and embeddings so made count as others.

Every text is as many tokens as the model reads, filled up or cut; what is cut is named in a
warning.
"""

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.priors.folder import load_part, part_class, place_of, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

WHOLE_FILE_BYTES = 1 << 26
SAMPLE_BYTES = 1 << 20
NUM_SAMPLES = 32


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a text encoder makes of prompts, without gradient."""

    tokens: Float[Tensor, "prompts tokens features"]
    pooled: Float[Tensor, "prompts pooled"] | None
    """One vector for each text; T5 has none."""


class TextEncoder:
    """One text model of a folder and its tokenizer.

    Args:
        folder: of the model.
        number: 1, 2 or 3: `text_encoder`, `text_encoder_2`, …
        device: where it runs.
        layer: whose hidden states are the tokens' features; `last` is normalised.
        max_tokens: tokens that are read, start and end marks included; None: as many as the model
            can.
        masked: hide the filling tokens from the model; None: as its config says.
        half: run T5 in bfloat16.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        *,
        number: int = 1,
        layer: Literal["last", "penultimate"] = "last",
        max_tokens: int | None = None,
        masked: bool | None = None,
        half: bool = False,
    ) -> None:
        self.folder, self.device, self.layer = folder, device, layer
        suffix = f"_{number}" if number > 1 else ""
        self.part, self._tokenizer_part = f"text_encoder{suffix}", f"tokenizer{suffix}"
        self._class, self._max_tokens, self._masked = (
            part_class(folder, self.part),
            max_tokens,
            masked,
        )
        part_class(folder, self._tokenizer_part)
        is_t5 = self._class == "T5EncoderModel"
        self.dtype = torch.bfloat16 if half and is_t5 else torch.float32
        self._model: Any = None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the tokenizer's and the text encoder's files, and of how the model is used."""
        digest = hashlib.sha256()
        for part in (self._tokenizer_part, self.part):
            for path in sorted(place_of(self.folder, part).iterdir()):
                digest.update(f"{part}/{path.name}".encode())
                digest.update(file_digest(path))
        use = (self.layer, self._max_tokens, self._masked, str(self.dtype))
        digest.update(repr(use).encode())
        return digest.hexdigest()

    @cached_property
    def _tokenizer(self) -> "PreTrainedTokenizerBase":
        from transformers import CLIPTokenizer, T5Tokenizer

        cls = T5Tokenizer if self._class == "T5EncoderModel" else CLIPTokenizer
        return load_part(cls, self.folder, self._tokenizer_part)

    @cached_property
    def limit(self) -> int:
        """Tokens that the model reads, its start and end marks included."""
        config = read_json(place_of(self.folder, self.part) / "config.json")
        sizes = (
            self._tokenizer.model_max_length if self._max_tokens is None else self._max_tokens,
            config.get("max_position_embeddings"),
        )
        return min(size for size in sizes if size is not None)

    def fits(self, text: str) -> bool:
        """Tell whether the model reads a text to its end."""
        ids: Any = self._tokenizer(text, verbose=False).input_ids
        return len(ids) <= self.limit

    def warn_if_cut(self, prompts: list[str]) -> None:
        """Log a warning for each prompt that is longer than the model reads, quoting the rest."""
        for prompt in prompts:
            ids: Any = self._tokenizer(prompt, verbose=False).input_ids
            if len(ids) > self.limit:
                marks = self._tokenizer.num_special_tokens_to_add()
                lost = self._tokenizer.decode(ids[self.limit - 1 : -1])
                logger.warning(
                    "The prompt has %d tokens and the model reads %d; this part is ignored: %r.",
                    len(ids) - marks,
                    self.limit - marks,
                    lost,
                )

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Encoded:
        """Embed prompts as the pipeline that the model was trained with does."""
        tokens: Any = self._tokenizer(
            prompts,
            padding="max_length",
            max_length=self.limit,
            truncation=True,
            return_tensors="pt",
        )
        ids: Int[Tensor, "prompts tokens"] = tokens.input_ids.to(self.device)
        model = self._load()
        masked = getattr(model.config, "use_attention_mask", False)
        if self._masked is not None:
            masked = self._masked
        # what is masked depends on values, which tensors of the meta device have not
        masked = masked and self.device.type != "meta"
        mask = tokens.attention_mask.to(self.device) if masked else None
        output = model(ids, attention_mask=mask, output_hidden_states=self.layer != "last")
        states = output.last_hidden_state if self.layer == "last" else output.hidden_states[-2]
        pooled = getattr(output, "text_embeds", None)
        if pooled is None:
            pooled = getattr(output, "pooler_output", None)
        return Encoded(states.float(), None if pooled is None else pooled.float())

    def _load(self) -> Any:
        if self._model is None:
            import transformers

            cls = getattr(transformers, self._class)
            if self.device.type == "meta":
                config = load_part(cls.config_class, self.folder, self.part)
                with torch.device("meta"):
                    return cls(config).to(self.dtype)
            model: Any = load_part(cls, self.folder, self.part, weights=True, dtype=self.dtype)
            self._model = model.requires_grad_(False).eval().to(self.device)
        return self._model

    def release(self) -> None:
        """Drop the text model; the next `encode` loads it again."""
        self._model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def file_digest(path: Path) -> bytes:
    """Hash a file: all of it up to 64 MiB, else its size and 32 evenly spread mebibytes."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size <= WHOLE_FILE_BYTES:
            digest.update(file.read())
        else:
            digest.update(str(size).encode())
            for i in range(NUM_SAMPLES):
                file.seek(i * (size - SAMPLE_BYTES) // (NUM_SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.digest()
