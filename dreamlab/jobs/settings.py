"""Every setting of a run by its dotted key, with its value in a recipe and what it means."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dreamlab.core.config import field_docs, to_plain
from dreamlab.core.errors import InputError, nearest
from dreamlab.core.schedules import Schedule
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE
from dreamlab.jobs.recipes import SAMPLE_PROMPT, load_recipe
from dreamlab.systems import components

KINDS: dict[str, components.Kind] = {
    "representation": "representations",
    "renderer": "renderers",
    "guidance": "guidance",
}
"""Fields of a stage that hold a component, and the folder it is found in."""

FIXED = ("prompt", "recipe", "quality", "version")
"""Fields of a run that are no settings: options of the command line, or of its record."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key that `generate` can change."""

    key: str
    """Dotted path."""
    value: Any
    """Plain value in the recipe."""
    doc: str
    """What it is."""


def list_settings(
    recipe: str = DEFAULT_RECIPE, quality: str = "standard", prefix: str = ""
) -> list[Setting]:
    """List the settings of a recipe whose key is `prefix` or lies below it.

    Raises:
        InputError: there is no such recipe or quality, or no key begins with `prefix`.
    """
    config = load_recipe(recipe, quality, prompt=SAMPLE_PROMPT)
    everything = [setting for setting in _walk(config, "") if setting.key not in FIXED]
    found = [s for s in everything if f"{s.key}.".startswith(f"{prefix}." if prefix else "")]
    if not found:
        parents = {s.key for s in everything} | {s.key.rpartition(".")[0] for s in everything}
        raise InputError(f"no setting is called {prefix!r}.", nearest(prefix, parents - {""}))
    return found


def _walk(value: Any, path: str) -> Iterator[Setting]:
    docs = field_docs(type(value))
    for field in dataclasses.fields(value):
        key = f"{path}.{field.name}" if path else field.name
        yield from _entries(getattr(value, field.name), key, field.name, docs.get(field.name, ""))


def _entries(item: Any, key: str, name: str, doc: str) -> Iterator[Setting]:
    if name in KINDS and isinstance(item, dict):
        component = components.find(KINDS[name], item, key)
        yield Setting(f"{key}.name", component.name, doc)
        yield from _walk(component.config, key)
    elif isinstance(item, dict) and any(map(dataclasses.is_dataclass, item.values())):
        for inner, content in item.items():
            yield from _entries(content, f"{key}.{inner}", inner, doc)
    elif dataclasses.is_dataclass(item) and not isinstance(item, Schedule):
        yield from _walk(item, key)
    else:
        yield Setting(key, to_plain(item), doc)
