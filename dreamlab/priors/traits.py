"""What a stage must know of a prior to fit it: known before any weights are loaded.

A prior that is loaded has its traits (`traits_of`). Those of one that is only named are foreseen
(`foreseen`): from the configs in its folder, if that is on this machine, else from the table of
models and the family that it names there. What neither says is None, and then only the run can say
whether it fits.
"""

from dataclasses import dataclass
from pathlib import Path

from dreamlab.core.errors import InputError
from dreamlab.priors import flux, mvdream
from dreamlab.priors.autoencoder import Pixels, channels_and_factor
from dreamlab.priors.base import Prior
from dreamlab.priors.diffusion import latent_side, square_side
from dreamlab.priors.folder import (
    DEEPFLOYD,
    FAMILIES,
    FLUX,
    MVDREAM,
    Family,
    family_of,
    place_of,
    read_json,
)
from dreamlab.priors.hub import find_local
from dreamlab.priors.load import Model, PriorConfig, check_hooks, name_of, resolve_model
from dreamlab.priors.multi_view import MultiView


@dataclass(frozen=True, slots=True)
class Traits:
    """A prior as a stage sees it; None: not known yet."""

    name: str
    """What messages call it."""
    num_views: int | None = None
    """Views of an object that it judges at once; 1: each for itself."""
    latent_channels: int | None = None
    latent_size: int | None = None
    """Side of its square latents."""
    image_size: int | None = None
    """Side of the square pictures that it judges, pixels."""
    family: Family | None = None
    """Of a model that is only named."""


def traits_of(prior: Prior) -> Traits:
    """Return the traits of a prior that is loaded."""
    return Traits(
        prior.name,
        prior.num_views if isinstance(prior, MultiView) else 1,
        prior.latent_channels,
        prior.latent_size,
        prior.image_size,
    )


def foreseen(config: PriorConfig) -> Traits:
    """Return the traits that a model will have, as far as is known; nothing is downloaded.

    Raises:
        InputError: no model has this name, its family has no adapter or no image prompts, or
            its pictures cannot have the size that is asked for.
        MissingError: a file of its folder is damaged.
    """
    model = resolve_model(config.model)
    folder = local_folder(model)
    if folder is None:
        return _of_table(config, model)
    return _of_folder(config, folder)


def local_folder(model: Model) -> Path | None:
    """Return where a model lies on this machine, if all of it does."""
    return next(filter(None, map(find_local, model.sources)), None)


def _of_table(config: PriorConfig, model: Model) -> Traits:
    if model.pipeline is None:
        return Traits(config.model)
    family, image_size = FAMILIES[model.pipeline], config.image_size or model.image_size
    check_hooks(family, config.model, (), config.image_prompt)
    side = None
    if image_size is not None:
        native = model.image_size or image_size
        side = latent_side(config.model, image_size, family.factor, native)
    return Traits(config.model, family.num_views, family.channels, side, image_size, family)


def _of_folder(config: PriorConfig, folder: Path) -> Traits:
    family, name = family_of(folder), name_of(config.model, folder)
    check_hooks(family, name, (), config.image_prompt)
    channels, factor = Pixels.channels, Pixels.factor
    if family is not DEEPFLOYD:
        channels, factor = channels_and_factor(read_json(place_of(folder, "vae") / "config.json"))
    native = _native_latents(folder, family) * factor
    image_size = config.image_size or native
    side = latent_side(name, image_size, factor, native)
    num_views = mvdream.views_of(folder) if family is MVDREAM else family.num_views
    return Traits(name, num_views, channels, side, image_size, family)


def _native_latents(folder: Path, family: Family) -> int:
    """Return the side of the latents that a model was made for.

    Raises:
        InputError: its config does not say.
    """
    if family is FLUX:
        return flux.NATIVE_LATENTS
    if family is MVDREAM:
        config = mvdream.unet_config(folder)
    else:
        part = "transformer" if "transformer" in family.parts else "unet"
        config = read_json(folder / part / "config.json")
    if not config.get("sample_size"):
        raise InputError(
            f"{folder} does not say how large its latents are (sample_size).",
            f"choose another {family.title} model, such as {family.example}.",
        )
    return square_side(config["sample_size"])
