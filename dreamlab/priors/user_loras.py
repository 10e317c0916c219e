"""LoRA files of the user, merged into the frozen denoiser one after another.

    W  ->  W + sum_i w_i scale_i B_i A_i

Glossary: W a frozen weight; A_i, B_i, scale_i of file i, in the layout of diffusers, PEFT or kohya;
w_i the user's weight of it.

Merged, they cost nothing in a step and leave nothing behind that a learned score (`lora`) could
mistake for its own. What a file holds for text encoders is left out, with a warning.

Source: Hu et al., LoRA (2022).
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamlab.core.errors import InputError, MissingError
from dreamlab.priors.folder import Family, quiet

logger = logging.getLogger(__name__)
SAFETENSORS = ".safetensors"


@dataclass(frozen=True, slots=True)
class UserLora:
    """A LoRA file and how much of it is wanted."""

    path: str
    """A file ending in .safetensors."""
    weight: float = 1.0
    """Factor of its change; 0: none, negative: the opposite."""


def check_suffix(path: str, key: str) -> None:
    """Refuse weights in a format that may run code when it is read.

    Raises:
        InputError: it is no safetensors file.
    """
    if Path(path).suffix != SAFETENSORS:
        raise InputError(
            f"{key} must be a {SAFETENSORS} file, got {path}: other formats can run code.",
            "convert it to safetensors, or download that version of it.",
        )


def check_weights_file(path: str, key: str) -> Path:
    """Return the path of a weights file.

    Raises:
        InputError: it is no safetensors file; others may run code when they are read.
        MissingError: it does not exist.
    """
    check_suffix(path, key)
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingError(f"{key}: there is no file {path}.", "correct the path.")
    return file


def merge_loras(network: Any, family: Family, loras: list[UserLora]) -> None:
    """Add the files' changes to the weights of a denoiser.

    Raises:
        InputError: a file is no safetensors, holds no LoRA, or one for another network.
        MissingError: a file does not exist, or is damaged.
    """
    for index, lora in enumerate(loras):
        file = check_weights_file(lora.path, f"prior.loras[{index}].path")
        _merge(network, family, file, lora.weight)


def _merge(network: Any, family: Family, file: Path, weight: float) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise MissingError(f"{file} cannot be read: {error}.", "download it again.") from None
    part = "transformer" if "transformer" in family.parts else "unet"
    name = "user"
    try:
        with quiet():
            state, alphas, metadata = _standard_form(tensors, family, network)
            own = [key for key in state if key.startswith(f"{part}.") and "lora" in key]
            if not own:
                raise ValueError(f"it has nothing for the {part}")
            network.load_lora_adapter(
                state, prefix=part, network_alphas=alphas, metadata=metadata, adapter_name=name
            )
            network.fuse_lora(lora_scale=weight, adapter_names=[name])
            network.unload_lora()
    except (ValueError, KeyError, RuntimeError, IndexError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(
            f"{file} is no LoRA for a {family.title} model: {line}.",
            "use a file that was trained on a model of this family.",
        ) from error
    network.requires_grad_(False)
    if left := len(state) - len(own):
        logger.warning("%s: %d tensors for the text encoder are left out.", file.name, left)


def _standard_form(
    tensors: dict[str, Any], family: Family, network: Any
) -> tuple[dict[str, Any], Any, Any]:
    """Bring names to those of diffusers; return tensors, alphas and metadata."""
    from diffusers import loaders

    loader = getattr(loaders, family.lora_loader)
    options: dict[str, Any] = {"return_lora_metadata": True}
    if family.lora_loader.startswith("Stable"):
        options["unet_config"] = network.config
    elif family.lora_loader.startswith("Flux"):
        options["return_alphas"] = True
    state, *rest = loader.lora_state_dict(dict(tensors), **options)
    alphas = rest[0] if len(rest) == 2 else None
    return state, alphas, rest[-1]
