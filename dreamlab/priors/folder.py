"""A model folder in diffusers' layout: its family, what it must hold, and loading its parts.

    model_index.json                       names the pipeline, which tells the family, and the
                                           class of every part
    unet/ or transformer/  vae/            config.json and weights as safetensors
    text_encoder/ (_2, _3)
    tokenizer/ (_2, _3)  scheduler/        their own files

A folder may add to another one, which its index names as `base`, a path from there to it: parts
that it lacks are those of the base.

Only safetensors weights are read (a pickle can run code), and only by the classes listed here,
whatever `model_index.json` asks for.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from dreamlab.core.errors import InputError, MissingError

T = TypeVar("T")

CLIP_MODEL = "CLIP model"
"""What a whole CLIP, both encoders, is called."""

Parts = dict[str, tuple[str, ...]]
"""Allowed classes by part."""
VAES = ("AutoencoderKL", "AutoencoderTiny")
CLIP: Parts = {
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
T5: Parts = {"text_encoder": ("T5EncoderModel",), "tokenizer": ("T5Tokenizer", "T5TokenizerFast")}
UNET: Parts = {"unet": ("UNet2DConditionModel",)}
VAE: Parts = {"vae": VAES}


def _numbered(parts: Parts, number: int) -> Parts:
    return {f"{part}_{number}": classes for part, classes in parts.items()}


def _projected(parts: Parts) -> Parts:
    """CLIP whose pooled output is projected; SDXL's first encoder may do without."""
    return parts | {"text_encoder": ("CLIPTextModelWithProjection",)}


@dataclass(frozen=True, slots=True)
class Family:
    """Models that one adapter drives."""

    title: str
    example: str
    """An alias of one of them."""
    parts: Parts
    """Classes of its parts; those that are not named in a folder's index may be left out if they
    are in `optional`."""
    optional: tuple[str, ...] = ()
    lora_loader: str = "StableDiffusionLoraLoaderMixin"
    """Class of diffusers that knows how LoRA files of the family are written."""
    channels: int = 4
    """Of the latents of its published models."""
    factor: int = 8
    """Pixels of such a model's latent, along one side."""
    num_views: int = 1
    """Views of an object that such a model judges at once."""
    is_steerable: bool = False
    """Whether ControlNets and image prompts can steer it; its adapter is a `UNetPrior`."""


STABLE_DIFFUSION = Family(
    "Stable Diffusion 1.x or 2.x", "sd15 or sd21", UNET | VAE | CLIP, is_steerable=True
)
SDXL = Family(
    "Stable Diffusion XL",
    "sdxl",
    UNET | VAE | CLIP | _numbered(_projected(CLIP), 2),
    lora_loader="StableDiffusionXLLoraLoaderMixin",
    is_steerable=True,
)
SD3 = Family(
    "Stable Diffusion 3",
    "sd3",
    {"transformer": ("SD3Transformer2DModel",)}
    | VAE
    | _projected(CLIP)
    | _numbered(_projected(CLIP), 2)
    | _numbered(T5, 3),
    optional=("text_encoder_3", "tokenizer_3"),
    lora_loader="SD3LoraLoaderMixin",
    channels=16,
)
FLUX = Family(
    "FLUX.1",
    "flux",
    {"transformer": ("FluxTransformer2DModel",)} | VAE | CLIP | _numbered(T5, 2),
    lora_loader="FluxLoraLoaderMixin",
    channels=16,
)
DEEPFLOYD = Family("DeepFloyd IF", "if", UNET | T5, channels=3, factor=1)
MVDREAM = Family(
    "MVDream",
    "mvdream",
    {"unet": ("UNet2DConditionModel", "MultiViewUNetModel")}
    | VAE
    | CLIP
    | {"camera_proj": ("CameraMatrixEmbedding",)},
    optional=("camera_proj",),
    num_views=4,
)
"""Three layouts of one network: see `mvdream`."""

FAMILIES = {
    "StableDiffusionPipeline": STABLE_DIFFUSION,
    "LatentConsistencyModelPipeline": STABLE_DIFFUSION,
    "StableDiffusionXLPipeline": SDXL,
    "StableDiffusion3Pipeline": SD3,
    "FluxPipeline": FLUX,
    "IFPipeline": DEEPFLOYD,
    "MVDreamPipeline": MVDREAM,
}
"""By the pipeline that `model_index.json` names."""
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


def index_parts(folder: Path) -> dict[str, str]:
    """Return the class of every part that the folder's index names.

    Raises:
        MissingError: there is no index, or it is damaged.
    """
    entries = read_json(folder / "model_index.json").items()
    return {
        part: entry[1]
        for part, entry in entries
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)
    }


def base_of(folder: Path) -> Path | None:
    """Return the folder that this one adds to, if it is no whole model by itself.

    Raises:
        MissingError: there is no index, or it is damaged.
    """
    base = read_json(folder / "model_index.json").get("base")
    return (folder / base).resolve() if isinstance(base, str) else None


def place_of(folder: Path, part: str) -> Path:
    """Return where a part of a model lies: in its own folder, or in that of its base.

    Raises:
        MissingError: there is no index, or it is damaged.
    """
    base = None if (folder / part).is_dir() else base_of(folder)
    return (folder if base is None else base) / part


def family_of(folder: Path) -> Family:
    """Return the family of a model folder.

    Raises:
        InputError: it is none that this program drives.
        MissingError: there is no index, or it is damaged.
    """
    pipeline = read_json(folder / "model_index.json").get("_class_name")
    if pipeline is None:
        raise MissingError(
            f"{folder / 'model_index.json'} does not name its pipeline (_class_name).",
            "download the model again.",
        )
    if not isinstance(pipeline, str) or pipeline not in FAMILIES:
        raise InputError(
            f"{folder} is a {pipeline}, allowed: {', '.join(FAMILIES)}.",
            "choose a text-to-image model of one of these (see `dreamlab doctor`).",
        )
    return FAMILIES[pipeline]


def missing_parts(folder: Path) -> list[str]:
    """List the parts of the layout that `folder` lacks; empty when it is complete.

    A folder of an unknown family lacks none: it is refused by name when it is loaded.
    """
    try:
        pipeline = read_json(folder / "model_index.json").get("_class_name")
        named = index_parts(folder)
    except MissingError:
        return ["model_index.json"]
    family = FAMILIES.get(pipeline) if isinstance(pipeline, str) else None
    if family is None:
        return []
    parts = [part for part in family.parts if part in named or part not in family.optional]
    missing: list[str] = []
    for part in parts:
        place = place_of(folder, part)
        if part.startswith("tokenizer"):
            if not place.is_dir():
                missing.append(f"{part}/")
        else:
            missing += missing_weights(place, part)
    if not (place_of(folder, "scheduler") / "scheduler_config.json").is_file():
        missing.append("scheduler/scheduler_config.json")
    return missing


def missing_weights(place: Path, label: str) -> list[str]:
    """List what the folder of one model lacks, config and weights."""
    if not (place / "config.json").is_file():
        return [f"{label}/config.json"]
    stem = weights_stem(label)
    return [] if any(place.glob(f"{stem}*.safetensors")) else [f"{label}/{stem}.safetensors"]


def weights_stem(part: str) -> str:
    """Return how the names of a part's weights begin."""
    of_transformers = part.startswith("text_encoder") or part == CLIP_MODEL
    return "model" if of_transformers else "diffusion_pytorch_model"


def part_class(folder: Path, part: str) -> str:
    """Return the class name that the folder's index gives for `part`.

    Raises:
        InputError: the class is not one that this program drives.
    """
    name = index_parts(folder).get(part)
    family = family_of(folder)
    allowed = family.parts.get(part)
    if name is None or (allowed is not None and name not in allowed):
        raise InputError(
            f"{folder} is not a {family.title} model: its {part} is {name}"
            + (f", allowed: {', '.join(allowed)}." if allowed else "."),
            f"choose a model of that family, such as {family.example} (see `dreamlab doctor`).",
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
    place = place_of(folder, part)
    if weights:
        options |= {"use_safetensors": True, "variant": _variant(place, part, prefer_half)}
    try:
        with quiet():
            return cls.from_pretrained(  # type: ignore[attr-defined]
                str(place.parent), subfolder=part, local_files_only=True, **options
            )
    except Exception as error:  # each library below raises its own kinds for a damaged file
        line = " ".join(str(error).split())[:200]
        raise MissingError(
            f"{place} cannot be loaded: {line}.", "download or copy the model again."
        ) from error


def load_weights(folder: Path, part: str, *, prefer_half: bool) -> dict[str, Tensor]:
    """Read the weights of a part by the names that its file gives them, for other classes' names.

    Raises:
        MissingError: the file is missing or damaged.
    """
    from safetensors.torch import load_file

    place, stem = place_of(folder, part), weights_stem(part)
    variant = _variant(place, part, prefer_half)
    path = place / (f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors")
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises kinds of its own
        line = " ".join(str(error).split())[:200]
        raise MissingError(
            f"{path} cannot be loaded: {line}.", "download or copy the model again."
        ) from error


def _variant(place: Path, part: str, prefer_half: bool) -> str | None:
    stem = weights_stem(part)
    has_half = any(place.glob(f"{stem}.{HALF}*.safetensors"))
    has_full = any(place.glob(f"{stem}.safetensors")) or any(
        place.glob(f"{stem}-*-of-*.safetensors")
    )
    return HALF if has_half and (prefer_half or not has_full) else None
