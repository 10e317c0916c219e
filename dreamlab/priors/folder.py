"""A model folder in Stable Diffusion's layout: what it must hold, and loading its parts.

    model_index.json            names the class of every part
    unet/  vae/  text_encoder/  config.json and weights as safetensors
    tokenizer/  scheduler/      their own files

Only safetensors weights are read (a pickle can run code), and only by the classes listed here,
whatever `model_index.json` asks for.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from dreamlab.core.errors import InputError, MissingError

T = TypeVar("T")

SUPPORTED = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "AutoencoderTiny"),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "scheduler": None,
}
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
HALF = "fp16"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep notes and progress bars of transformers and diffusers off the terminal."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    libraries = (of_diffusers, of_transformers)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in libraries]
    for log in libraries:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, (verbosity, had_bars) in zip(libraries, before, strict=True):
            log.set_verbosity(verbosity)
            if had_bars:
                log.enable_progress_bar()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Raises:
        MissingError: there is no such file, or it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingError(
            f"{path} cannot be read: {error}.", "download or copy the model again."
        ) from None


def missing_parts(folder: Path) -> list[str]:
    """List the parts of the layout that `folder` lacks; empty when it is complete."""
    missing = [] if (folder / "model_index.json").is_file() else ["model_index.json"]
    for part in ("unet", "vae", "text_encoder"):
        if not (folder / part / "config.json").is_file():
            missing.append(f"{part}/config.json")
        elif not any((folder / part).glob(f"{WEIGHTS[part]}*.safetensors")):
            missing.append(f"{part}/{WEIGHTS[part]}.safetensors")
    if not (folder / "tokenizer").is_dir():
        missing.append("tokenizer/")
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        missing.append("scheduler/scheduler_config.json")
    return missing


def part_class(folder: Path, part: str) -> str:
    """Return the class name that the folder's index gives for `part`.

    Raises:
        InputError: the class is not one that this program drives.
    """
    entry = read_json(folder / "model_index.json").get(part)
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    allowed = SUPPORTED[part]
    if name is None or (allowed is not None and name not in allowed):
        raise InputError(
            f"{folder} is not a Stable Diffusion 1.x or 2.x model: its {part} is {name}"
            + (f", allowed: {', '.join(allowed)}." if allowed else "."),
            "choose a model of that family, such as sd15 or sd21 (see `dreamlab doctor`).",
        )
    return name


def load_part(
    cls: type[T],
    folder: Path,
    part: str,
    *,
    weights: bool = False,
    prefer_half: bool = False,
    **options: Any,
) -> T:
    """Load one part of a model folder with `cls.from_pretrained`, from disk only.

    Args:
        weights: the part has weights; half-precision files are taken when `prefer_half` is set,
            or when there are no others.
        options: passed on.

    Raises:
        MissingError: a file is missing or damaged.
    """
    if weights:
        options |= {"use_safetensors": True, "variant": _variant(folder, part, prefer_half)}
    try:
        with quiet():
            return cls.from_pretrained(  # type: ignore[attr-defined]
                str(folder), subfolder=part, local_files_only=True, **options
            )
    except Exception as error:  # each library below raises its own kinds for a damaged file
        line = " ".join(str(error).split())[:200]
        raise MissingError(
            f"{folder / part} cannot be loaded: {line}.", "download or copy the model again."
        ) from error


def _variant(folder: Path, part: str, prefer_half: bool) -> str | None:
    stem = WEIGHTS[part]
    has_half = any((folder / part).glob(f"{stem}.{HALF}*.safetensors"))
    has_full = any((folder / part).glob(f"{stem}.safetensors")) or any(
        (folder / part).glob(f"{stem}-*-of-*.safetensors")
    )
    return HALF if has_half and (prefer_half or not has_full) else None
