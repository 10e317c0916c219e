"""Checkpoints in one file, as fine-tuned models are shared, brought into a folder once.

The file holds the weights of all networks under the names of the original code; sizes, tokenizer
and schedule come from the folder of the model that it was made from (`prior.model`). The result
lies in the cache, named by the contents of both, and is loaded from there as every other folder.
"""

import logging
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any

from dreamlab.core.errors import InputError
from dreamlab.core.locations import cache_dir
from dreamlab.priors.folder import missing_parts, quiet, read_json
from dreamlab.priors.text_encoder import file_digest
from dreamlab.priors.user_loras import check_weights_file

logger = logging.getLogger(__name__)


def unpacked(checkpoint: str, base: Path) -> Path:
    """Return the folder of a checkpoint's networks, converting it if that was not done before.

    Args:
        checkpoint: path of a .safetensors file with denoiser, autoencoder and text encoders.
        base: complete folder of a model of the same kind.

    Raises:
        InputError: the file is no safetensors, or does not hold a model of the base's kind.
        MissingError: the file does not exist.
    """
    file = check_weights_file(checkpoint, "prior.checkpoint")
    folder = cache_dir() / "models" / f"{file.stem}-{_key(file, base)}"
    if missing_parts(folder):
        logger.info("Converting %s once into %s.", file, folder)
        _convert(file, base, folder)
    return folder


def _key(file: Path, base: Path) -> str:
    digest = sha256(file_digest(file))
    for config in sorted(base.rglob("*.json")):
        digest.update(config.relative_to(base).as_posix().encode() + config.read_bytes())
    return digest.hexdigest()[:16]


def _convert(file: Path, base: Path, folder: Path) -> None:
    import diffusers
    from safetensors import safe_open

    index = read_json(base / "model_index.json")
    unwanted = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")
    skipped = {part: None for part in unwanted if part in index}
    temporary = folder.with_name(f"{folder.name}.part")
    rmtree(temporary, ignore_errors=True)
    try:
        with quiet():
            with safe_open(file, "pt") as tensors:  # type: ignore[no-untyped-call]
                dtype = tensors.get_tensor(next(iter(tensors.keys()))).dtype
            cls: Any = getattr(diffusers, index["_class_name"])
            pipeline = cls.from_single_file(
                str(file), config=str(base), local_files_only=True, torch_dtype=dtype, **skipped
            )
            pipeline.save_pretrained(temporary)
    except Exception as error:  # a wrong file fails in as many ways as it has keys
        rmtree(temporary, ignore_errors=True)
        line = " ".join(str(error).split())[:200]
        raise InputError(
            f"prior.checkpoint: {file} is no checkpoint of the kind of {base.name}: {line}.",
            "set prior.model to the model that it was made from, such as sd15 or sdxl.",
        ) from error
    rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
