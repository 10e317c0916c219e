"""Which stages a prior can judge: one check, before a run from what is foreseen of it, and in it.

What is not known yet (None in `Traits`) is no reason to refuse; it is looked at again when the
prior is loaded.
"""

import functools
from collections.abc import Mapping
from typing import Any

import torch

from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Latent
from dreamlab.guidance.pictures import check_sees
from dreamlab.priors.learner import check_latents
from dreamlab.priors.load import PriorConfig, check_hooks
from dreamlab.priors.multi_view import check_whole_groups
from dreamlab.priors.traits import Traits, foreseen
from dreamlab.systems import components
from dreamlab.systems.settings import FLAT, StageConfig


def check_stages(stages: Mapping[str, StageConfig], prior: Traits) -> None:
    """Refuse a run with a stage that its prior cannot judge; see `check_prior`.

    Raises:
        InputError: naming the stage, and what to change.
    """
    for name, config in stages.items():
        check_prior(name, config, prior)


def check_prior(name: str, config: StageConfig, prior: Traits) -> None:
    """Refuse a stage that a prior cannot judge, as far as is known of the prior.

    Args:
        name: of the stage.
        config: its settings, resolved.
        prior: that guides the run.

    Raises:
        InputError: its views are no whole groups, its latents or a second model's are not the
            prior's, it names several second models, or asks for what the prior cannot look at.
    """
    check_groups(name, config, prior)
    for rule in config.rules.values():
        sees = rule.get("sees")
        if sees is not None and prior.latent_channels is not None:
            check_sees(sees, prior.name, prior.latent_channels)
    if is_latent(config.representation["name"]):
        part = components.find("representations", config.representation)
        check_latent_shape(name, part.module.build(part.config, torch.Generator()), prior)
    if prior.family is not None:
        check_hooks(prior.family, prior.name, [each.model for each in config.controls], None)
    second = second_model(name, config)
    if second is not None:
        check_latents(prior, foreseen(PriorConfig(second, image_size=prior.image_size)))


def second_model(name: str, config: StageConfig) -> str | None:
    """Return the model beside the prior whose network learns in the stage `name`, if there is one.

    Raises:
        InputError: its rules name several.
    """
    rules = config.rules.values()
    named = [model for rule in rules if (model := rule.get("learned_model")) is not None]
    if len(set(named)) > 1:
        raise InputError(
            f"the rules of stage {name!r} learn on {' and '.join(dict.fromkeys(named))}, and a "
            "stage has one second model.",
            "name the same learned_model in all of them, or leave it out.",
        )
    return named[0] if named else None


def check_groups(name: str, config: StageConfig, prior: Traits) -> None:
    """Refuse views that a multi-view prior cannot judge together.

    Raises:
        InputError: the stage `name` shows no object from around, or not in whole groups.
    """
    together = prior.num_views
    if together is None or together == 1:
        return
    if config.renderer["name"] == FLAT:
        raise InputError(
            f"{prior.name} judges {together} views of an object at once, and stage {name!r} makes "
            "a picture.",
            "choose a model that judges single pictures, such as sd21.",
        )
    check_whole_groups(prior.name, together, config.views, f"stages.{name}.views")
    if config.cameras.together not in (1, together):
        raise InputError(
            f"{prior.name} judges {together} views from all around, and stages.{name}.cameras."
            f"together is {config.cameras.together}.",
            f"leave stages.{name}.cameras.together out.",
        )
    low, high = config.cameras.azimuth
    if abs(high - low - 360) > 1e-3:
        raise InputError(
            f"{prior.name} judges {together} views from all around, and stages.{name}.cameras."
            f"azimuth is [{low:g}, {high:g}].",
            f"leave stages.{name}.cameras.azimuth out, or make it a whole turn.",
        )


def check_latent_shape(name: str, representation: Latent, prior: Traits) -> None:
    """Refuse latents of another shape than the prior's.

    Raises:
        InputError: with the numbers that would be right.
    """
    side = prior.latent_size
    got, wanted = representation.latents.shape[1:], (prior.latent_channels, side, side)
    if None not in wanted and tuple(got) != wanted:
        raise InputError(
            f"stage {name!r} holds latents of shape {tuple(got)}, those of the model "
            f"{prior.name!r} have {wanted}.",
            f"set stages.{name}.representation.channels={wanted[0]}, .latent_size={side} and "
            f".size={prior.image_size}.",
        )


@functools.cache
def is_latent(representation: str) -> bool:
    """Whether a representation, with its default settings, holds the latents of a picture."""
    part = components.find("representations", {"name": representation})
    made: Any = part.module.build(part.config, torch.Generator())
    return isinstance(made, Latent)
