"""From a model's name to a loaded prior.

A name is an alias of `configs/models.yaml`, the path of a folder in diffusers' layout, or a hub id
`owner/name`. An alias stands for an ordered list of sources, because published models disappear
from the hub: the first one that can be had is taken. The model's model_index.json tells the family,
and so the adapter.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from dreamlab.core.config import build, load_yaml
from dreamlab.core.errors import InputError, MissingError, nearest
from dreamlab.core.locations import configs_dir
from dreamlab.priors import deepfloyd, flux, mvdream, sd3, sdxl, stable_diffusion
from dreamlab.priors.base import Prior
from dreamlab.priors.controlnet import load_control
from dreamlab.priors.diffusion import (
    DiffusionPrior,
    Dtype,
    LoadOptions,
    explicit_dtype,
    resolve_dtype,
)
from dreamlab.priors.folder import (
    DEEPFLOYD,
    FAMILIES,
    FLUX,
    MVDREAM,
    SD3,
    SDXL,
    STABLE_DIFFUSION,
    Family,
    family_of,
)
from dreamlab.priors.footprint import META, Demand
from dreamlab.priors.hub import is_hub_id, locate, locate_network
from dreamlab.priors.image_prompt import ImagePrompt, load_image_prompt
from dreamlab.priors.memory import (
    WORTH_COUNTING,
    Rung,
    free_bytes,
    rungs_to_fit,
    take,
)
from dreamlab.priors.single_file import unpacked
from dreamlab.priors.unet import UNetPrior
from dreamlab.priors.user_loras import UserLora, merge_loras

logger = logging.getLogger(__name__)

ADAPTERS: dict[str, Callable[[Path, LoadOptions], DiffusionPrior]] = {
    STABLE_DIFFUSION.title: stable_diffusion.load,
    SDXL.title: sdxl.load,
    SD3.title: sd3.load,
    FLUX.title: flux.load,
    DEEPFLOYD.title: deepfloyd.load,
    MVDREAM.title: mvdream.load,
}


@dataclass(frozen=True, slots=True)
class PriorConfig:
    """Which diffusion model guides, and how it is run."""

    model: str = "toybox"
    """An alias (see `dreamlab doctor`), a folder in diffusers' layout, or a hub id."""
    dtype: Dtype = "auto"
    """Precision of denoiser and autoencoder; `auto` is float16 on CUDA and float32 elsewhere."""
    image_size: int | None = None
    """Side of the pictures that are judged; none: what the model was made for."""
    vae: str | None = None
    """Folder or hub id of another autoencoder; none: the model's own."""
    embedded_guidance: float | None = None
    """Guidance scale that a model is told into which one was distilled (FLUX.1-dev, LCM); none: its
    authors'."""
    checkpoint: str | None = None
    """A .safetensors file with all networks of a model that was made from `model`; none: `model`'s
    own networks."""
    loras: list[UserLora] = dataclasses.field(default_factory=list)
    """LoRA files that are merged into the denoiser: `[{path: …, weight: 0.8}]`."""
    image_prompt: ImagePrompt | None = None
    """A picture that says beside the prompt what to make, and the IP-Adapter that reads it."""
    max_rows: int | None = None
    """Latents that the denoiser gets in one call; none: all of a step at once."""
    memory: list[Rung] | Literal["auto"] = "auto"
    """Rungs of the memory ladder that are taken from the start; `auto`: as many as are needed for
    the model to fit. The run takes more by itself if its memory runs out."""

    def __post_init__(self) -> None:
        if self.max_rows is not None and self.max_rows < 1:
            raise ValueError(f"max_rows must be positive, got {self.max_rows}")
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size must be positive, got {self.image_size}")
        if self.embedded_guidance is not None and self.embedded_guidance <= 0:
            raise ValueError(f"embedded_guidance must be positive, got {self.embedded_guidance}")


Kind = Literal["model", "controlnet"]
TITLES: dict[Kind, str] = {"model": "model", "controlnet": "ControlNet"}


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked for by name."""

    sources: list[str]
    """In order of preference: `package:<path>`, folders, hub ids."""
    licence: str = "see the model's own page"
    """Under which terms its weights may be used."""
    about: str = ""
    """One line for listings."""
    kind: Kind = "model"
    """What it is: a model that guides, or a ControlNet for such."""
    sees: Literal["depth", "normal"] | None = None
    """Picture that a ControlNet reads; none: not known."""
    image_size: int | None = None
    """Side of its images in pixels, where it is known before loading."""
    max_guidance: float | None = None
    """Largest guidance scale that the model stands; none: any. Distilled models stand little."""
    few_steps: int | None = None
    """Timesteps at which it was trained, if it is a teacher of few steps; none: all."""
    pipeline: str | None = None
    """What its model_index.json names, so its family is known without it; none: it is not."""
    preset: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings laid over a recipe when it runs with this model."""

    def __post_init__(self) -> None:
        if self.pipeline is not None and self.pipeline not in FAMILIES:
            raise ValueError(f"pipeline must be one of {', '.join(FAMILIES)}, got {self.pipeline}")


def known_models(kind: Kind = "model") -> dict[str, Model]:
    """Read the alias table, as far as it is about models, or about ControlNets.

    Raises:
        InputError: the table has an unknown key or a value of a wrong type.
    """
    path = configs_dir() / "models.yaml"
    models = _table(path, path.stat().st_mtime_ns)
    return {name: model for name, model in models.items() if model.kind == kind}


@functools.lru_cache(maxsize=1)
def _table(path: Path, changed: int) -> dict[str, Model]:
    return {name: build(Model, entry, f"models.{name}") for name, entry in load_yaml(path).items()}


def resolve_model(name: str, kind: Kind = "model") -> Model:
    """Return the model that `name` stands for; nothing is loaded and no network is asked.

    Raises:
        InputError: `name` is neither an alias, nor an existing folder, nor of the form owner/name.
    """
    models = known_models(kind)
    if name in models:
        return models[name]
    if name and Path(name).expanduser().is_dir():
        return Model(sources=[name], about="a local folder", kind=kind)
    if is_hub_id(name):
        for model in models.values():
            if name in model.sources:  # what is known about it holds under this name too
                return dataclasses.replace(model, sources=[name])
        return Model(sources=[name], about="a repository on the hub", kind=kind)
    raise InputError(
        f"there is no {TITLES[kind]} {name!r}: it is no alias, no folder and no hub id "
        "(owner/name).",
        nearest(name, models),
    )


def load_prior(
    config: PriorConfig,
    device: torch.device | str,
    demands: Sequence[Demand] = (Demand(),),
    controls: Sequence[str] = (),
) -> Prior:
    """Load the model that `config` names onto `device`, downloading it when it must be.

    Args:
        config: the model, and how it is run.
        device: where it is run.
        demands: what the steps of the stages will ask of it, for the memory that it will need.
        controls: ControlNets that stages name.

    Raises:
        InputError: the name is unknown, the model is of a family without adapter, or cannot be
            steered by what is named.
        MissingError: the model cannot be had, or its files are damaged.
    """
    device = torch.device(device)
    model = resolve_model(config.model)
    half = resolve_dtype(config.dtype, device) == torch.float16
    folder = locate(config.model, model.sources, prefer_half=half)
    name = name_of(config.model, folder)
    if config.checkpoint is not None:
        folder = unpacked(config.checkpoint, folder)
        name = folder.name
    options = LoadOptions(
        name=name,
        device=device,
        dtype=explicit_dtype(config.dtype, device),  # counted without values, it is the same
        image_size=config.image_size,
        max_rows=config.max_rows,
        vae=None if config.vae is None else locate_network(config.vae, "autoencoder", "prior.vae"),
        embedded_guidance=config.embedded_guidance,
        max_guidance=model.max_guidance,
        few_steps=model.few_steps,
    )
    family = family_of(folder)
    check_hooks(family, name, controls, config.image_prompt)
    networks = {control: locate_control(control) for control in dict.fromkeys(controls)}

    def load(device: torch.device) -> DiffusionPrior:
        return ADAPTERS[family.title](folder, dataclasses.replace(options, device=device))

    def equipped(prior: DiffusionPrior) -> DiffusionPrior:
        """Add what steers it; to be done when nothing else changes its layers."""
        if isinstance(prior, UNetPrior):
            _equip(prior, networks, config.image_prompt, options)
        return prior

    rungs = config.memory
    if rungs == "auto":
        folders = [folder, *networks.values()]
        rungs = _rungs_to_fit(lambda: equipped(load(META)), folders, name, device, demands)
    # weights in half the size never take up the whole
    if "half_precision" in rungs and options.precision == torch.float32:
        dtype: Dtype = "float16" if device.type == "cuda" else "bfloat16"
        options = dataclasses.replace(options, dtype=dtype)
    prior = load(device)
    merge_loras(prior.network, family, config.loras)
    equipped(prior)
    for rung in rungs:
        if not take(prior, rung) and rung == "half_precision":
            prior.running.rungs.append(rung)
    return prior


def name_of(model: str, folder: Path) -> str:
    """Return what a prior is called: its alias, or else the name of its folder."""
    return model if model in known_models() else folder.name


def locate_control(name: str) -> Path:
    """Return the folder of a ControlNet, downloading it if it must be.

    Raises:
        InputError: the name stands for nothing.
        MissingError: no source could be had.
    """
    problems: list[str] = []
    for source in resolve_model(name, "controlnet").sources:
        try:
            return locate_network(source, TITLES["controlnet"], "the stage's controls")
        except MissingError as error:
            problems.append(error.message.removesuffix("."))
    raise MissingError(
        f"the ControlNet {name!r} cannot be had: {'; '.join(problems)}.",
        "connect to the network once, or leave it out of the stage's controls.",
    )


def check_hooks(
    family: Family, name: str, controls: Sequence[str], image: ImagePrompt | None
) -> None:
    """Refuse what the denoiser of a family cannot be steered by.

    Raises:
        InputError: it is no U-Net on latents.
    """
    if family.is_steerable or not (controls or image):
        return
    steerable = sorted({each.title for each in FAMILIES.values() if each.is_steerable})
    what = f"ControlNets ({', '.join(controls)})" if controls else "an image prompt"
    raise InputError(
        f"{name} is a {family.title} model, which {what} cannot steer here.",
        f"choose a {' or '.join(steerable)} model, or leave "
        f"{'the controls out of the stages' if controls else 'prior.image_prompt out'}.",
    )


def _equip(
    prior: UNetPrior, networks: dict[str, Path], image: ImagePrompt | None, options: LoadOptions
) -> None:
    """Load ControlNets and image prompt of a prior onto its device."""
    unet, factor = prior.network.config, prior.space.factor
    options = dataclasses.replace(options, device=prior.device)
    prior.controls = {
        name: load_control(folder, unet, factor, options) for name, folder in networks.items()
    }
    if image is not None:
        prior.image = load_image_prompt(image, prior.network, prior.device)


def _rungs_to_fit(
    load: Callable[[], DiffusionPrior],
    folders: list[Path],
    name: str,
    device: torch.device,
    demands: Sequence[Demand],
) -> list[Rung]:
    """Return the rungs that a model needs, loaded without values; small models are not counted."""
    free = free_bytes(device)
    others = {d.learned_model for d in demands if d.learned_model is not None}
    dtype = explicit_dtype("auto", device)  # of second models
    half = dtype == "float16"
    folders = [
        *folders,
        *(locate(other, resolve_model(other).sources, prefer_half=half) for other in others),
    ]
    files = [file for folder in folders for file in folder.rglob("*.safetensors")]
    weights = sum(file.stat().st_size for file in files)
    if free is None or weights < WORTH_COUNTING * free:
        return []
    twin = load()
    learners = {other: _learner_twin(other, twin.image_size, dtype) for other in others}
    can_offload = device.type == "cuda"
    rungs, needed = rungs_to_fit(twin, demands, free, can_offload=can_offload, learners=learners)
    level = logging.WARNING if needed.total > free else logging.INFO
    logger.log(
        level,
        "%s needs about %.1f GB of %s (weights %.1f, a step %.1f, texts %.1f), %.1f are free%s.",
        name,
        needed.total / 1e9,
        device,
        needed.weights / 1e9,
        needed.step / 1e9,
        needed.texts / 1e9,
        free / 1e9,
        f"; it runs with {', '.join(rungs)}" if rungs else "",
    )
    return rungs


def _learner_twin(name: str, image_size: int, dtype: Dtype) -> DiffusionPrior:
    """Load a second model, which learns beside a prior of so large pictures, without values."""
    twin = load_prior(PriorConfig(name, dtype, image_size, memory=[]), META)
    assert isinstance(twin, DiffusionPrior)
    return twin
