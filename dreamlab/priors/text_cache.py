"""Text embeddings on disk, so that a prompt that was seen before needs no text encoder.

One safetensors file per (model identity, prompt), named by the hash of both. A file that cannot be
read counts as absent and is written again; a folder that cannot be written costs one warning.
"""

import hashlib
import logging
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamlab.core.run_folder import atomic_path
from dreamlab.priors.base import Prior

logger = logging.getLogger(__name__)


def cache_key(identity: str, prompt: str) -> str:
    """Hash a model's identity and a prompt into a file name."""
    return hashlib.sha256(f"{identity}\0{prompt}".encode()).hexdigest()


def encode_cached(
    prior: Prior, prompts: list[str], folder: Path | None
) -> Float[Tensor, "prompts tokens features"]:
    """Embed `prompts`, taking from `folder` what is there and storing what is not.

    Every distinct prompt is encoded at most once. When `folder` is None nothing is stored.

    Returns:
        Embeddings in the order of `prompts`, float32, on the prior's device.
    """
    distinct = list(dict.fromkeys(prompts))
    if folder is None:
        known: dict[str, Tensor] = {}
    else:
        paths = {p: folder / f"{cache_key(prior.identity, p)}.safetensors" for p in distinct}
        known = {p: stored for p in distinct if (stored := _read(paths[p])) is not None}
        prior.warn_if_cut(list(known))
    missing = [prompt for prompt in distinct if prompt not in known]
    if missing:
        fresh = prior.encode_text(missing).detach().float().cpu()
        known.update(zip(missing, fresh, strict=True))
        if folder is not None:
            _write({paths[prompt]: known[prompt] for prompt in missing}, folder)
    return torch.stack([known[prompt] for prompt in prompts]).to(prior.device)


def _read(path: Path) -> Tensor | None:
    try:
        return load_file(path)["embedding"]
    except (OSError, SafetensorError, KeyError):
        return None


def _write(embeddings: dict[Path, Tensor], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, embedding in embeddings.items():
            with atomic_path(path) as temporary:
                save_file({"embedding": embedding.contiguous()}, temporary)
    except OSError as error:
        logger.warning("Text embeddings cannot be kept in %s: %s.", folder, error.strerror or error)
