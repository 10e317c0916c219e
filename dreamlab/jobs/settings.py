"""Every setting of a run by its dotted key, with its value in a recipe and what it means."""

import dataclasses
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dreamlab.core.config import field_docs, to_plain
from dreamlab.core.errors import InputError, nearest
from dreamlab.core.schedules import Schedule
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE
from dreamlab.jobs.recipes import SAMPLE_PROMPT, load_recipe
from dreamlab.systems import components

FIXED = ("prompt", "recipe", "quality", "version")
"""Fields of a run that are no settings: options of the command line, or of its record."""


TYPES = ("boolean", "integer", "number", "number or schedule", "text", "list", "mapping")
OR_NONE = " or none"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key that `generate` can change."""

    key: str
    """Dotted path."""
    value: Any
    """Plain value in the recipe, beside overrides."""
    doc: str
    """What it is."""
    type: str = "text"
    """One of `TYPES`; with " or none" if it may be unset."""
    choices: tuple[str, ...] | None = None
    """All values that it may have, if they can be listed."""


def list_settings(
    recipe: str = DEFAULT_RECIPE,
    quality: str = "standard",
    prefix: str = "",
    *,
    prompt: str = SAMPLE_PROMPT,
    overrides: Sequence[str] = (),
) -> list[Setting]:
    """List the settings of a recipe whose key is `prefix` or lies below it.

    Args:
        recipe: a recipe of `list_recipes()`, or the path of a .yaml file.
        quality: draft, standard or high.
        prefix: of dotted keys; all if empty.
        prompt: one that tells of several things may have other values (`with_layout`).
        overrides: `key=value`; another component has other settings.

    Raises:
        InputError: there is no such recipe or quality, the prompt or an override is refused, or no
            key begins with `prefix`.
    """
    config = load_recipe(recipe, quality, overrides, prompt=prompt, check_prior=False)
    everything = [setting for setting in _walk(config, "") if setting.key not in FIXED]
    found = [s for s in everything if f"{s.key}.".startswith(f"{prefix}." if prefix else "")]
    if not found:
        parents = {s.key for s in everything} | {s.key.rpartition(".")[0] for s in everything}
        raise InputError(f"no setting is called {prefix!r}.", nearest(prefix, parents - {""}))
    return found


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some changed settings on which it depends what settings there are.

    Args:
        settings: dotted key to plain value.
    """
    return {
        key: value
        for key, value in settings.items()
        if key.endswith((".name", ".rules")) or key.startswith("layout") or key == "prior.model"
    }


def _walk(value: Any, path: str) -> Iterator[Setting]:
    docs, hints = field_docs(type(value)), get_type_hints(type(value))
    for field in dataclasses.fields(value):
        key = f"{path}.{field.name}" if path else field.name
        doc, hint = docs.get(field.name, ""), hints[field.name]
        yield from _entries(getattr(value, field.name), key, field.name, doc, hint)


def _entries(item: Any, key: str, name: str, doc: str, hint: Any) -> Iterator[Setting]:
    if name in components.KINDS and isinstance(item, dict):
        component = components.find(components.KINDS[name], item, key)
        choices = tuple(components.available(components.KINDS[name]))
        yield Setting(f"{key}.name", component.name, doc, "text", choices)
        if component.name == components.SUM:
            for place, rule in components.rules_in(component.plain, key).items():
                yield from _entries(rule, place, name, doc, hint)
        else:
            yield from _walk(component.config, key)
    elif isinstance(item, dict) and any(map(dataclasses.is_dataclass, item.values())):
        for inner, content in item.items():
            yield from _entries(content, f"{key}.{inner}", inner, doc, get_args(hint)[-1])
    elif dataclasses.is_dataclass(item) and not isinstance(item, Schedule):
        yield from _walk(item, key)
    else:
        kind, choices = describe_type(hint)
        yield Setting(key, to_plain(item), doc, kind, choices)


def describe_type(hint: Any) -> tuple[str, tuple[str, ...] | None]:
    """Name the type of a field, for a form: one of `TYPES`, and its choices if it has any."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kept = [option for option in arguments if option is not type(None)]
        may_be_none = OR_NONE if len(kept) < len(arguments) else ""
        if Schedule in kept:
            return f"number or schedule{may_be_none}", None
        kind, choices = describe_type(kept[0])
        return kind + may_be_none, choices
    if origin is Literal:
        return "text", tuple(map(str, arguments))
    if origin in (tuple, list):
        return "list", None
    names = {bool: "boolean", int: "integer", float: "number", str: "text"}
    return names.get(hint, "mapping"), None
