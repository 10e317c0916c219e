"""Text embeddings on disk, so that a prompt that was seen before needs no text encoder.

One safetensors file per (model identity, prompt, number of pieces), named by the hash of these. A
file that cannot be read counts as absent and is written again; a folder that cannot be written
costs one warning.
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
from dreamlab.priors.long_prompts import encode_in_pieces, num_pieces

logger = logging.getLogger(__name__)


def cache_key(identity: str, prompt: str, pieces: int = 1) -> str:
    """Hash a model's identity, a prompt and its number of pieces into a file name."""
    in_pieces = f"\0{pieces} pieces" if pieces > 1 else ""
    return hashlib.sha256(f"{identity}\0{prompt}{in_pieces}".encode()).hexdigest()


def encode_cached(
    prior: Prior, prompts: list[str], folder: Path | None, at_least: int = 1
) -> Float[Tensor, "prompts tokens features"]:
    """Embed `prompts`, taking from `folder` what is there and storing what is not.

    Every distinct prompt is encoded at most once. When `folder` is None nothing is stored.

    Args:
        prior: embeds them.
        prompts: any texts.
        folder: of the cache.
        at_least: pieces, for priors that read long prompts in pieces (`long_prompts`).

    Returns:
        Embeddings in the order of `prompts`, float32, on the prior's device.
    """
    distinct = list(dict.fromkeys(prompts))
    pieces = max(at_least, num_pieces(prior, distinct))
    if folder is None:
        known: dict[str, Tensor] = {}
    else:
        paths = {
            p: folder / f"{cache_key(prior.identity, p, pieces)}.safetensors" for p in distinct
        }
        known = {p: stored for p in distinct if (stored := read_embedding(paths[p])) is not None}
        prior.warn_if_cut(list(known))
    missing = [prompt for prompt in distinct if prompt not in known]
    if missing:
        fresh = encode_in_pieces(prior, missing, pieces).detach().float().cpu()
        known.update(zip(missing, fresh, strict=True))
        if folder is not None:
            write_embeddings({paths[prompt]: known[prompt] for prompt in missing}, folder)
    return torch.stack([known[prompt] for prompt in prompts]).to(prior.device)


def read_embedding(path: Path) -> Tensor | None:
    """Read a file of the cache; None if it is not there or damaged."""
    try:
        return load_file(path)["embedding"]
    except (OSError, SafetensorError, KeyError):
        return None


def write_embeddings(embeddings: dict[Path, Tensor], folder: Path) -> None:
    """Write files into the folder of the cache; if that cannot be done, warn."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, embedding in embeddings.items():
            with atomic_path(path) as temporary:
                save_file({"embedding": embedding.contiguous()}, temporary)
    except OSError as error:
        logger.warning("Embeddings cannot be kept in %s: %s.", folder, error.strerror or error)
