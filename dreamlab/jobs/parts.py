"""The prior and the components that a recipe could have: which fit, and why others do not.

A choice is a setting like any other (`prior.model`, `stages.<stage>.<part>.name`), and brings what
it cannot be without: a representation the renderer that shows it, a prior that judges N views at
once a multiple of N views. What is said about a choice that does not fit is what a run would end
with.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dreamlab.core.errors import DreamlabError
from dreamlab.jobs.choices import Option, Part
from dreamlab.jobs.layouts.given import given_layout
from dreamlab.jobs.recipes import SAMPLE_PROMPT, RunConfig, layout_from_words, load_recipe
from dreamlab.priors.load import known_models
from dreamlab.priors.multi_view import whole_groups
from dreamlab.priors.traits import Traits, foreseen, local_folder
from dreamlab.systems import components
from dreamlab.systems.fitting import check_object, check_rule, renderers_of
from dreamlab.systems.prior_fit import check_prior

__all__ = ["list_parts"]
REMEMBERED = 64
"""Answers that are kept."""
MODEL, SIZE = "prior.model", "prior.image_size"
"""Settings of the run that choose a prior."""


def list_parts(
    recipe: str, quality: str, overrides: tuple[str, ...] = (), prompt: str = SAMPLE_PROMPT
) -> list[Part]:
    """List what prior a recipe and what each of its stages could have, beside the other settings.

    Args:
        recipe: its name.
        quality: draft, standard or high.
        overrides: `key=value`, as for `load_recipe`.
        prompt: of the run; its words may say a layout.

    Raises:
        InputError: a setting is refused, whatever it is beside.
    """
    reading = layout_from_words(recipe, quality, overrides)
    has_layout = reading is not None and given_layout(reading, prompt) is not None
    return _list_parts(recipe, quality, overrides, prompt if has_layout else SAMPLE_PROMPT)


@functools.lru_cache(maxsize=REMEMBERED)
def _list_parts(recipe: str, quality: str, overrides: tuple[str, ...], prompt: str) -> list[Part]:
    form = _Form(recipe, quality, overrides, prompt)
    return [form.prior(), *form.components()]


class _Form:
    """A recipe at a quality with settings, to be tried with others."""

    def __init__(self, recipe: str, quality: str, overrides: Sequence[str], prompt: str) -> None:
        self.recipe, self.quality, self.overrides, self.prompt = recipe, quality, overrides, prompt
        self.base, self.now = self.resolve(()), self.resolve(overrides)

    def resolve(self, overrides: Sequence[str]) -> RunConfig:
        """Resolve settings, whether they fit each other or not."""
        return load_recipe(
            self.recipe, self.quality, overrides, prompt=self.prompt, check_prior=False
        )

    # the prior

    def prior(self) -> Part:
        """List the models that the run could have."""
        now, brought = self.now.prior.model, dict[str, Any]()
        of_recipe = self._of_recipe()
        with suppress(DreamlabError):  # of a model that cannot be used; its option says why
            brought = self._brought(now, _without(self.overrides, MODEL, *of_recipe))
        # what came with a model goes with it
        gone = [key for key, value in brought.items() if _line(key, value) in self.overrides]
        kept = _without(self.overrides, MODEL, *gone)
        own = {MODEL: self.base.prior.model} | {key: of_recipe[key] for key in gone}
        options = [self._model(name, kept) for name in known_models()]
        return Part("", "prior", now, own, options)

    def _of_recipe(self) -> dict[str, Any]:
        """Return what the recipe has for the settings that a model may bring."""
        views = {f"stages.{name}.views": each.views for name, each in self.base.stages.items()}
        return views | {SIZE: self.base.prior.image_size}

    def _brought(self, model: str, kept: Sequence[str]) -> dict[str, Any]:
        """Return the settings that come with a model: whole groups of views, pictures of its size.

        Raises:
            DreamlabError: it cannot be used.
        """
        brought: dict[str, Any] = {}
        is_sized = self.base.prior.image_size is not None and not _has(kept, SIZE)
        if is_sized and model != self.base.prior.model:
            brought[SIZE] = None
        config = self.resolve([*kept, *_lines({MODEL: model} | brought)])
        together = foreseen(config.prior).num_views or 1
        for name, stage in config.stages.items():
            if stage.views % together:
                brought[f"stages.{name}.views"] = whole_groups(together, stage.views)
        return brought

    def _model(self, name: str, kept: Sequence[str]) -> Option:
        """Try a model."""
        model, settings = known_models()[name], {MODEL: name}
        why, fix = "", ""
        try:
            settings |= self._brought(name, kept)
            self.resolve([*_without(kept, *settings), *_lines(settings)]).check_prior()
        except DreamlabError as error:
            why, fix = error.message, error.fix
        return Option(name, settings, why, fix, model.about, local_folder(model) is not None)

    # the components of a stage

    def components(self) -> Iterator[Part]:
        """List the representations and rules that each stage could have."""
        for stage, config in self.now.stages.items():
            for part in ("representation", "guidance"):
                together = ("representation", "renderer") if part == "representation" else (part,)
                kept = _without(self.overrides, *(f"stages.{stage}.{each}" for each in together))
                chosen, own = (
                    {f"stages.{stage}.{each}.name": getattr(of, each)["name"] for each in together}
                    for of in (config, self.base.stages[stage])
                )
                name = getattr(config, part)["name"]
                options = [
                    self._present(stage, part, chosen)
                    if other == name
                    else self._component(kept, stage, part, other)
                    for other in components.available(components.KINDS[part])
                ]
                yield Part(stage, part, name, own, options)

    def _present(self, stage: str, part: str, settings: dict[str, Any]) -> Option:
        """Try the component that there is, with all of its settings."""
        name = settings[f"stages.{stage}.{part}.name"]
        try:
            self._check(self.now, stage, part)
        except DreamlabError as error:
            return Option(name, settings, error.message, error.fix)
        return Option(name, settings)

    def _component(self, kept: Sequence[str], stage: str, part: str, name: str) -> Option:
        """Try a component; of several renderers that show it, the first that fits is taken."""
        key = f"stages.{stage}.{part}.name"
        choices = [{key: name}]
        if part == "representation":
            renderer = f"stages.{stage}.renderer.name"
            choices = [{key: name, renderer: each} for each in renderers_of(name)]
        refused: DreamlabError | None = None
        for settings in choices:
            try:
                self._check(self.resolve([*kept, *_lines(settings)]), stage, part)
                return Option(name, settings)
            except DreamlabError as error:
                refused = refused or error
        if refused is None:
            return Option(name, {key: name}, "no renderer can show it.", "write one that can.")
        return Option(name, choices[0], refused.message, refused.fix)

    def _check(self, config: RunConfig, stage: str, part: str) -> None:
        """Refuse a stage of which a part was changed, with what a run would end with."""
        check_rule(config.stages, stage)
        if part == "representation":  # the guidance changes nothing about the object
            check_object(config.stages, stage, config.layout)
        check_prior(stage, config.stages[stage], self._traits)

    @functools.cached_property
    def _traits(self) -> Traits:
        """The prior as it is chosen; if that cannot be used, nothing is known of it."""
        try:
            return foreseen(self.now.prior)
        except DreamlabError:
            return Traits(self.now.prior.model)


def _line(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value)}"


def _lines(settings: Mapping[str, Any]) -> list[str]:
    return [_line(key, value) for key, value in settings.items()]


def _has(overrides: Sequence[str], key: str) -> bool:
    return any(each.startswith(f"{key}=") for each in overrides)


def _without(overrides: Sequence[str], *keys: str) -> list[str]:
    """Leave out the settings with these keys, and all below them."""
    prefixes = tuple(f"{key}{end}" for key in keys for end in "=.")
    return [each for each in overrides if not each.startswith(prefixes)]
