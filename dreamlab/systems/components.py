"""Components, found by the name of the file that holds them.

A component is a module with a dataclass `Config` and a function `build(config, ...)`. A recipe
names it by its file (`name: hashgrid` in a stage's `representation` is
`dreamlab.representations.hashgrid`) or, outside of this package, by its full dotted path
(`name: my_package.my_field`). The other keys beside `name` are the component's own settings.

Guidance may be a sum of rules, which are components themselves (`guidance.sum`): its settings hold
theirs, by names of the user's.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import ModuleType
from typing import Any, Literal

from dreamlab.core.config import Plain, build, to_plain
from dreamlab.core.errors import InputError, nearest

Kind = Literal["representations", "renderers", "guidance"]
KINDS: dict[str, Kind] = {
    "representation": "representations",
    "renderer": "renderers",
    "guidance": "guidance",
}
"""Fields of a stage that hold a component, and the folder it is found in."""
SUM = "sum"
"""Name of the guidance that adds up other rules, which its setting `rules` names."""
PER_OBJECT = "per_object"
"""Setting of representations that can be composed, see `representations.composed`."""
CONFIG_MARK = "\nclass Config"
"""A file that defines this at its top level holds a component; others are their helpers."""


@dataclass(frozen=True, slots=True)
class Component:
    """A component with its settings, ready to be built."""

    name: str
    """File name, or dotted path of an external module."""
    module: ModuleType
    """Offers `build(config, ...)`."""
    config: Any
    """An instance of the module's `Config`."""

    @property
    def per_object(self) -> bool:
        """Whether each object of a layout has one of its own."""
        return getattr(self.config, PER_OBJECT, False)

    @property
    def plain(self) -> Plain:
        """The settings as plain values with all defaults; `find` of them is the same component."""
        return {"name": self.name, **to_plain(self.config)}


def available(kind: Kind) -> list[str]:
    """List the components of a folder by name, without importing them."""
    sources = (item for item in files(f"dreamlab.{kind}").iterdir() if item.name.endswith(".py"))
    marked = (item for item in sources if CONFIG_MARK in item.read_text(encoding="utf-8"))
    return sorted(item.name.removesuffix(".py") for item in marked)


def find(kind: Kind, settings: Mapping[str, Any], where: str = "") -> Component:
    """Find the component that `settings` name and build its configuration.

    Args:
        kind: the folder to look in.
        settings: the component's `name` and its own settings, plain values.
        where: dotted path of `settings` in the recipe, for messages.

    Raises:
        InputError: no name, an unknown one, a module that is no component, or a bad setting.
    """
    name = settings.get("name")
    place = where or kind
    if not isinstance(name, str):
        allowed = ", ".join(available(kind))
        raise InputError(f"{place} has no name.", f"set {place}.name to one of: {allowed}.")
    module = _external(name, place) if "." in name else _internal(kind, name, place)
    own = {key: value for key, value in settings.items() if key != "name"}
    config = build(module.Config, own, where)
    if name == SUM and kind == "guidance":
        config = dataclasses.replace(config, rules=_resolved_rules(config.rules, where))
    return Component(name, module, config)


def rules_in(guidance: Mapping[str, Any], where: str = "guidance") -> dict[str, Plain]:
    """Return the settings of the single rules of a guidance: its own, or those of a sum's rules.

    Args:
        guidance: plain settings, a sum's of the right types.
        where: dotted path of `guidance`; keys of the result are such paths.
    """
    if guidance.get("name") != SUM:
        return {where: dict(guidance)}
    return {f"{where}.rules.{name}": rule for name, rule in guidance.get("rules", {}).items()}


def _resolved_rules(rules: Mapping[str, Plain], where: str) -> dict[str, Plain]:
    """Spell out the defaults of a sum's rules."""
    resolved: dict[str, Plain] = {}
    for name, rule in rules.items():
        place = f"{where}.rules.{name}" if where else f"rules.{name}"
        if rule.get("name") == SUM:
            raise InputError(
                f"{place} is a sum in a sum.", "put its rules beside the others: they are added."
            )
        resolved[name] = find("guidance", rule, place).plain
    return resolved


def _internal(kind: Kind, name: str, place: str) -> ModuleType:
    names = available(kind)
    if name not in names:
        raise InputError(f"{place}.name is {name!r}, which does not exist.", nearest(name, names))
    return importlib.import_module(f"dreamlab.{kind}.{name}")


def _external(name: str, place: str) -> ModuleType:
    try:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ImportError("it is no dotted path")
        module = importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{place}.name is {name!r}, which cannot be imported: {error}.",
            "install the package that holds it, or correct the path.",
        ) from None
    is_component = dataclasses.is_dataclass(getattr(module, "Config", None))
    if not is_component or not callable(getattr(module, "build", None)):
        raise InputError(
            f"{place}.name is {name!r}, which is not a component.",
            "it must define a dataclass Config and a function build(config, ...).",
        )
    return module
