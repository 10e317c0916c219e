"""The components that each stage of a recipe could have: which fit, and why others do not.

A choice is a setting like any other (`stages.<stage>.<part>.name`). A representation brings the
renderer that shows it. What is said about a choice that does not fit is what a run would end with.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dreamlab.core.errors import InputError
from dreamlab.jobs.recipes import SAMPLE_PROMPT, RunConfig, load_recipe
from dreamlab.systems import components
from dreamlab.systems.fitting import check_object, check_rule, renderers_of

__all__ = ["Option", "Part", "list_parts"]
REMEMBERED = 64
"""Answers that are kept."""


@dataclass(frozen=True, slots=True)
class Option:
    """A component that a stage could have."""

    name: str
    settings: dict[str, str]
    """Dotted keys that choose it."""
    why_not: str
    """Why it does not fit; empty if it does."""


@dataclass(frozen=True, slots=True)
class Part:
    """A representation or a guidance of a stage, and what else it could be."""

    stage: str
    part: str
    """representation or guidance."""
    chosen: str
    """The component that the stage has now."""
    own: dict[str, str]
    """Dotted keys with the names that the recipe itself has for them."""
    options: list[Option]


@functools.lru_cache(maxsize=REMEMBERED)
def list_parts(recipe: str, quality: str, overrides: tuple[str, ...] = ()) -> list[Part]:
    """List what each stage could have, beside the other settings as they are.

    Args:
        recipe: its name.
        quality: draft, standard or high.
        overrides: `key=value`, as for `load_recipe`.

    Raises:
        InputError: the settings are refused as they are.
    """
    base, now = (_load(recipe, quality, chosen) for chosen in ((), overrides))
    return list(_parts(recipe, quality, overrides, base, now))


def _load(recipe: str, quality: str, overrides: Sequence[str]) -> RunConfig:
    return load_recipe(recipe, quality, overrides, prompt=SAMPLE_PROMPT)


def _parts(
    recipe: str, quality: str, overrides: Sequence[str], base: RunConfig, now: RunConfig
) -> Iterator[Part]:
    for stage, config in now.stages.items():
        of_recipe = base.stages[stage]
        for part in ("representation", "guidance"):
            brought = ("representation", "renderer") if part == "representation" else (part,)
            kept = _without(overrides, stage, brought)
            options = [
                _option(recipe, quality, kept, stage, part, name)
                for name in components.available(components.KINDS[part])
            ]
            own = {
                f"stages.{stage}.{each}.name": getattr(of_recipe, each)["name"] for each in brought
            }
            yield Part(stage, part, getattr(config, part)["name"], own, options)


def _without(overrides: Sequence[str], stage: str, parts: Sequence[str]) -> list[str]:
    """Leave out what is set of some parts of a stage: it means nothing to another component."""
    prefixes = tuple(f"stages.{stage}.{part}" for part in parts)
    return [each for each in overrides if not each.startswith(prefixes)]


def _option(
    recipe: str, quality: str, kept: Sequence[str], stage: str, part: str, name: str
) -> Option:
    """Try a component; of several renderers that show it, the first that fits is taken."""
    key = f"stages.{stage}.{part}.name"
    choices = [{key: name}]
    if part == "representation":
        renderer = f"stages.{stage}.renderer.name"
        choices = [{key: name, renderer: each} for each in renderers_of(name)]
    why = ""
    for settings in choices:
        chosen = [f"{key}={value}" for key, value in settings.items()]
        try:
            config = _load(recipe, quality, [*kept, *chosen])
            check_rule(config.stages, stage)
            if part == "representation":  # the guidance changes nothing about the object
                check_object(config.stages, stage, config.layout)
            return Option(name, settings, "")
        except InputError as error:
            why = why or error.message
    return Option(name, choices[0] if choices else {key: name}, why or "no renderer can show it.")
