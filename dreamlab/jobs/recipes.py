"""Recipes resolved: from a name, a quality and overrides to the settings of a run.

Layers, later ones over earlier ones:

    defaults of the dataclasses <- recipe file <- its changes where there is a layout
        <- preset of the prior <- preset of the quality <- overrides (key=value)

The result has every default spelled out; it is written to the run folder as config.yaml, and
`load_run_config` of that file gives the same settings again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dreamlab.core.config import Plain, build, dump_yaml, load_yaml, merge, parse_dotlist, to_plain
from dreamlab.core.errors import InputError, nearest
from dreamlab.core.layout import Layout, check_prompt
from dreamlab.core.version import VERSION
from dreamlab.export.pipeline import ExportConfig
from dreamlab.jobs.layouts.given import FROM_WORDS, given_layout
from dreamlab.jobs.layouts.words import layout_of
from dreamlab.jobs.recipe_files import (
    DEFAULT_RECIPE,
    QUALITIES,
    Quality,
    list_recipes,
    read_recipe,
)
from dreamlab.priors.load import PriorConfig, resolve_model
from dreamlab.priors.traits import foreseen
from dreamlab.systems import components
from dreamlab.systems.per_object import check_per_object
from dreamlab.systems.prior_fit import check_stages
from dreamlab.systems.settings import StageConfig

__all__ = ["RunConfig", "list_recipes", "load_recipe", "load_run_config"]

EMBEDDED = ("toybox", "toybox-views")
"""Names of the models that come with dreamlab; they know the same words."""
SAMPLE_PROMPT = "a red mushroom"
SECTIONS = 64
"""Top-level keys that are remembered as YAML: rows of a batch share most of theirs."""
HEADER = "# Every setting of this run. To repeat it: dreamlab generate --config <this file>\n"


@dataclass(frozen=True, slots=True)
class RunConfig:
    """All settings of a run."""

    prompt: str
    """What to make."""
    stages: dict[str, StageConfig]
    """Stages by name, in the order in which they run."""
    negative_prompt: str = ""
    """What it should not be."""
    seed: int = 0
    """Every random number of the run follows from it."""
    recipe: str = DEFAULT_RECIPE
    """The recipe that the settings come from."""
    quality: Quality = "standard"
    """The quality preset that was applied."""
    prior: PriorConfig = field(default_factory=PriorConfig)
    """The diffusion model."""
    layout: Layout | None = None
    """Objects in boxes, each with a prompt of its own; an override may also name a file
    (scene.yaml) or say `prompt`, which reads it from the words of the prompt, or `auto`, which
    does so if they tell of several things."""
    export: ExportConfig = field(default_factory=ExportConfig)
    """What is written in the end."""
    version: str = VERSION
    """The dreamlab that resolved these settings."""

    def __post_init__(self) -> None:
        check_prompt(self.prompt, "the prompt")
        if self.negative_prompt:
            check_prompt(self.negative_prompt, "the negative_prompt")
        if not self.stages:
            raise ValueError("there must be at least one stage")

    def resolved(self) -> "RunConfig":
        """Spell out the defaults of all components.

        Raises:
            InputError: a component or one of its settings is unknown or wrong, or `per_object` is
                set where it cannot be.
        """
        stages = {name: stage.resolved(f"stages.{name}") for name, stage in self.stages.items()}
        check_per_object(stages, self.layout)
        return replace(self, stages=stages)

    def check_prior(self) -> None:
        """Refuse a prior that cannot judge a stage, as far as is known before it is loaded.

        Raises:
            InputError: what the run would end with, naming the stage.
            MissingError: the prior's folder is damaged.
        """
        check_stages(self.stages, foreseen(self.prior))

    def to_yaml(self) -> str:
        """Write all settings, as config.yaml of a run folder holds them."""
        sections = (json.dumps({key: value}) for key, value in to_plain(self).items())
        return HEADER + "".join(map(_section, sections))


@lru_cache(SECTIONS)
def _section(text: str) -> str:
    """Write a key with its value, given as JSON, as YAML."""
    return dump_yaml(json.loads(text))


def load_recipe(
    name: str = DEFAULT_RECIPE,
    quality: str = "standard",
    overrides: Sequence[str] = (),
    *,
    prompt: str,
    negative_prompt: str = "",
    seed: int = 0,
    guidance: str | None = None,
    check_prior: bool = True,
) -> RunConfig:
    """Resolve a recipe for a prompt.

    Args:
        name: a recipe of `list_recipes()`, or the path of a .yaml file.
        quality: draft, standard or high.
        overrides: `key=value` with dotted keys, such as `stages.nerf.steps=300`.
        prompt: what to make.
        negative_prompt: what it should not be.
        seed: of every random number.
        guidance: a rule for all stages instead of the recipe's.
        check_prior: refuse stages that the prior cannot judge.

    Raises:
        InputError: unknown recipe, quality, key, model or component, a value that is refused, or a
            stage that the prior cannot judge.
        MissingError: the prior's folder is damaged.
    """
    recipe = read_recipe(name)
    if quality not in QUALITIES:
        raise InputError(f"unknown quality {quality!r}.", nearest(quality, QUALITIES))
    chosen = parse_dotlist(overrides)
    for key, option in (("recipe", "--recipe"), ("quality", "--quality"), ("version", None)):
        if key in chosen:
            fix = f"use the option {option}." if option else "leave it out."
            raise InputError(f"{key!r} cannot be set by an override.", fix)
    of_quality = recipe.quality.get(quality, {})
    for layer in (recipe.with_layout, of_quality, chosen):
        _check_stage_names(layer, recipe.stages)
    layers = (recipe.settings, of_quality, chosen)
    layout = given_layout(_layout_setting(*layers), prompt)
    of_layout = recipe.with_layout if layout is not None else {}
    model = _model_of(merge(*({"prior": at["prior"]} for at in layers if "prior" in at)))
    settings = merge(recipe.settings, of_layout, resolve_model(model).preset, of_quality)
    if guidance is not None:
        settings = _with_rule(settings, guidance)
    settings = merge(with_parts(settings, chosen), chosen) | {"layout": to_plain(layout)}
    given = {"prompt": prompt, "negative_prompt": negative_prompt, "seed": seed}
    content = given | {"recipe": name, "quality": quality} | settings
    config = build(RunConfig, content).resolved()
    if check_prior:
        config.check_prior()
    return config


def layout_from_words(name: str, quality: str, overrides: Sequence[str] = ()) -> str | None:
    """Return how a layout is read from the words of every prompt; None if it is not.

    Arguments as for `load_recipe`.

    Raises:
        InputError: there is no such recipe, or the overrides cannot be read.
    """
    recipe, chosen = read_recipe(name), parse_dotlist(overrides)
    said = _layout_setting(recipe.settings, recipe.quality.get(quality, {}), chosen)
    return said if said in FROM_WORDS else None


def _layout_setting(*layers: Mapping[str, Any]) -> Any:
    return merge(*({"layout": at["layout"]} for at in layers if "layout" in at)).get("layout")


def _with_layout(settings: Plain, prompt: str) -> Plain:
    """Write the layout out, so that a run folder needs no other file."""
    return settings | {"layout": to_plain(given_layout(settings.get("layout"), prompt))}


def _check_stage_names(layer: Mapping[str, Any], stages: Mapping[str, Any]) -> None:
    """Refuse a stage that the recipe does not have, which would otherwise count as a new one."""
    named = layer.get("stages", {})
    for name in named if isinstance(named, dict) else ():
        if name not in stages:
            raise InputError(f"unknown key 'stages.{name}'.", nearest(name, stages))


def _with_rule(settings: Plain, name: str) -> Plain:
    """Give all stages another rule; of the old one's settings, those are kept that it has too."""
    chosen = {"guidance": {"name": name}}
    return with_parts(settings, {"stages": dict.fromkeys(settings["stages"], chosen)})


def with_parts(settings: Plain, chosen: Mapping[str, Any]) -> Plain:
    """Put the components that `chosen` names in the place of others.

    Of the settings of the one before, those are kept that the new one has too; the others would
    mean nothing to it. So it is with the rules of a sum.

    Raises:
        InputError: there is no such component.
    """
    given, wanted = settings.get("stages"), chosen.get("stages")
    if not isinstance(given, Mapping) or not isinstance(wanted, Mapping):
        return dict(settings)  # what is wrong with them is said when the settings are built
    stages = dict(given)
    for name, stage in wanted.items():
        if not isinstance(stages.get(name), Mapping) or not isinstance(stage, Mapping):
            continue
        for part, kind in components.KINDS.items():
            old, new = stages[name].get(part, {}), stage.get(part)
            if isinstance(old, Mapping) and isinstance(new, Mapping):
                changed = _with_component(kind, old, new, f"stages.{name}.{part}")
                stages[name] = stages[name] | {part: changed}
    return settings | {"stages": stages}


def _with_component(
    kind: components.Kind, old: Mapping[str, Any], new: Mapping[str, Any], where: str
) -> Plain:
    """Return the settings of `old` that the component has too which `new` names."""
    name = new.get("name")
    if isinstance(name, str) and name != old.get("name"):
        known = components.find(kind, {"name": name}, where).plain
        return {key: value for key, value in old.items() if key in known} | {"name": name}
    rules, wanted = old.get("rules"), new.get("rules")
    if not isinstance(rules, Mapping) or not isinstance(wanted, Mapping):
        return dict(old)
    changed = {
        key: _with_component(kind, rules[key], rule, f"{where}.rules.{key}")
        for key, rule in wanted.items()
        if isinstance(rules.get(key), Mapping) and isinstance(rule, Mapping)
    }
    return {**old, "rules": {**rules, **changed}}


def _model_of(settings: Plain) -> str:
    prior = settings["prior"]
    model = prior.get("model", PriorConfig().model) if isinstance(prior, dict) else prior
    if not isinstance(model, str):
        raise InputError(f"prior.model must be text, got {model!r}.", "change prior.model.")
    return model


def load_run_config(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    prompt: str | None = None,
    negative_prompt: str | None = None,
    seed: int | None = None,
) -> RunConfig:
    """Read the config.yaml of a run folder; what is given replaces what it says.

    Raises:
        InputError: the file is missing, damaged, or has settings that this version does not know;
            or another prompt is given, and the boxes are what the words of the old one say.
    """
    content = load_yaml(path)
    written_by = content.get("version")
    given = {"prompt": prompt, "negative_prompt": negative_prompt, "seed": seed}
    changes = {key: value for key, value in given.items() if value is not None}
    chosen = parse_dotlist(overrides)
    settings = merge(with_parts(content, chosen), chosen) | changes
    if prompt is not None and "layout" not in chosen:
        _check_still_said(content, prompt)
    try:
        settings = _with_layout(settings, str(settings.get("prompt", "")))
        config = build(RunConfig, settings | {"version": VERSION}).resolved()
        resolve_model(config.prior.model)
    except InputError as error:
        if written_by in (None, VERSION):
            raise InputError(f"{path}: {error.message}", error.fix) from None
        raise InputError(
            f"{path} was written by dreamlab {written_by}, this is {VERSION}: {error.message}",
            f"install dreamlab {written_by}, or correct the file: {error.fix}",
        ) from None
    return config


def _check_still_said(content: Mapping[str, Any], prompt: str) -> None:
    """Refuse another prompt for boxes that were read from the words of the one before."""
    before = content.get("prompt")
    if not isinstance(before, str) or prompt == before or not content.get("layout"):
        return
    try:
        said = to_plain(layout_of(before))
    except InputError:
        return
    if content["layout"] == said:
        raise InputError(
            f"the boxes of this run are those of its own prompt, {before!r}.",
            "say layout=prompt to read boxes from the new prompt, or layout=null to go without.",
        )


def words_unknown_to_prior(config: RunConfig) -> dict[str, list[str]]:
    """Map the words of the prompts that the embedded priors do not know to the nearest ones.

    Other models know the whole language; for them the result is empty.
    """
    if config.prior.model not in EMBEDDED:
        return {}
    from dreamlab.priors.toybox.world.captions import unknown_words

    texts = [config.prompt, config.negative_prompt]
    if config.layout is not None:
        texts += [box.prompt for box in config.layout.boxes]
    rules = [rule for stage in config.stages.values() for rule in stage.rules.values()]
    texts += [rule.get("reference_prompt", "") for rule in rules]
    return {word: near for text in texts for word, near in unknown_words(text).items()}
