"""The CLIP text encoder of a Stable Diffusion folder, loaded only when a text must be encoded.

It always runs in float32: it runs once per prompt, then leaves memory, and embeddings so made serve
every precision of the U-Net.
"""

import hashlib
import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.priors.folder import load_part

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

logger = logging.getLogger(__name__)

WHOLE_FILE_BYTES = 1 << 26
SAMPLE_BYTES = 1 << 20
NUM_SAMPLES = 32


class ClipText:
    """Tokenizer and text model below one Stable Diffusion folder."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder = folder
        self.device = device
        self._model: Any = None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the tokenizer's and the text encoder's files."""
        digest = hashlib.sha256()
        for part in ("tokenizer", "text_encoder"):
            for path in sorted((self.folder / part).iterdir()):
                digest.update(f"{part}/{path.name}".encode())
                digest.update(file_digest(path))
        return digest.hexdigest()

    @cached_property
    def _tokenizer(self) -> "CLIPTokenizer":
        from transformers import CLIPTokenizer

        return load_part(CLIPTokenizer, self.folder, "tokenizer")

    @cached_property
    def _limit(self) -> int:
        """Tokens that the model reads, its start and end marks included."""
        from transformers import CLIPTextConfig

        config = load_part(CLIPTextConfig, self.folder, "text_encoder")
        return min(self._tokenizer.model_max_length, config.max_position_embeddings)

    def warn_if_cut(self, prompts: list[str]) -> None:
        """Log a warning for each prompt that is longer than the model reads, quoting the rest."""
        for prompt in prompts:
            ids: Any = self._tokenizer(prompt, verbose=False).input_ids
            if len(ids) > self._limit:
                lost = self._tokenizer.decode(ids[self._limit - 1 : -1])
                logger.warning(
                    "The prompt has %d tokens and the model reads %d; this part is ignored: %r.",
                    len(ids) - 2,
                    self._limit - 2,
                    lost,
                )

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Float[Tensor, "prompts tokens features"]:
        """Embed prompts as the pipeline that the model was trained with does."""
        self.warn_if_cut(prompts)
        tokens = self._tokenizer(
            prompts,
            padding="max_length",
            max_length=self._limit,
            truncation=True,
            return_tensors="pt",
        )
        ids: Int[Tensor, "prompts tokens"] = tokens.input_ids.to(self.device)
        model = self._load()
        mask = None
        if getattr(model.config, "use_attention_mask", False):
            mask = tokens.attention_mask.to(self.device)
        return model(ids, attention_mask=mask).last_hidden_state

    def _load(self) -> Any:
        if self._model is None:
            from transformers import CLIPTextModel

            model: Any = load_part(
                CLIPTextModel, self.folder, "text_encoder", weights=True, dtype=torch.float32
            )
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
