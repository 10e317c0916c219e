"""From a model's name to a loaded prior.

A name is an alias of `configs/models.yaml`, the path of a folder in Stable Diffusion's layout, or
a hub id `owner/name`. An alias stands for an ordered list of sources, because published models
disappear from the hub: the first one that can be had is taken.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dreamlab.core.config import build, load_yaml
from dreamlab.core.errors import InputError, nearest
from dreamlab.core.locations import configs_dir
from dreamlab.priors.base import Prior
from dreamlab.priors.hub import is_hub_id, locate
from dreamlab.priors.stable_diffusion import Dtype, load_stable_diffusion, resolve_dtype


@dataclass(frozen=True, slots=True)
class PriorConfig:
    """Which diffusion model guides, and how it is run."""

    model: str = "toybox"
    """An alias (see `dreamlab doctor`), a folder in Stable Diffusion's layout, or a hub id."""
    dtype: Dtype = "auto"
    """Precision of U-Net and autoencoder; `auto` is float16 on CUDA and float32 elsewhere."""
    attention_slicing: bool = False
    """Compute attention head by head: less memory, slower."""
    vae_slicing: bool = False
    """Encode and decode one image at a time: less memory, slower."""
    max_rows: int | None = None
    """Latents that the U-Net gets in one call; none: all of a step at once."""

    def __post_init__(self) -> None:
        if self.max_rows is not None and self.max_rows < 1:
            raise ValueError(f"max_rows must be positive, got {self.max_rows}")


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked for by name."""

    sources: list[str]
    """In order of preference: `package:<path>`, folders, hub ids."""
    licence: str = "see the model's own page"
    """Under which terms its weights may be used."""
    about: str = ""
    """One line for listings."""
    image_size: int | None = None
    """Side of its images in pixels, where it is known before loading."""
    preset: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings laid over a recipe when it runs with this model."""


def known_models() -> dict[str, Model]:
    """Read the alias table.

    Raises:
        InputError: the table has an unknown key or a value of a wrong type.
    """
    table = load_yaml(configs_dir() / "models.yaml")
    return {name: build(Model, entry, f"models.{name}") for name, entry in table.items()}


def resolve_model(name: str) -> Model:
    """Return the model that `name` stands for; nothing is loaded and no network is asked.

    Raises:
        InputError: `name` is neither an alias, nor an existing folder, nor of the form owner/name.
    """
    models = known_models()
    if name in models:
        return models[name]
    if name and Path(name).expanduser().is_dir():
        return Model(sources=[name], about="a local folder")
    if is_hub_id(name):
        return Model(sources=[name], about="a repository on the hub")
    raise InputError(
        f"there is no model {name!r}: it is no alias, no folder and no hub id (owner/name).",
        nearest(name, models),
    )


def load_prior(config: PriorConfig, device: torch.device | str) -> Prior:
    """Load the model that `config` names onto `device`, downloading it when it must be.

    Raises:
        InputError: the name is unknown, or the model is of another family.
        MissingError: the model cannot be had, or its files are damaged.
    """
    device = torch.device(device)
    model = resolve_model(config.model)
    half = resolve_dtype(config.dtype, device) == torch.float16
    folder = locate(config.model, model.sources, prefer_half=half)
    return load_stable_diffusion(
        folder,
        name=config.model if config.model in known_models() else folder.name,
        device=device,
        dtype=config.dtype,
        attention_slicing=config.attention_slicing,
        vae_slicing=config.vae_slicing,
        max_rows=config.max_rows,
    )
