"""Recipe files: which there are and what is written in them. No torch here.

A recipe is a YAML file in the configs folder; its file name is its name. Top level keys:
`description` (one line), `cost` (what each quality takes), `prior`, `stages` (a mapping by name, in
order), `layout` (where objects stand, see `jobs.layouts.given`), `export`, `with_layout`, the
settings that a layout changes if there is one, and `quality`, a mapping from the name of a quality
to the settings that it changes.

A recipe that says `extends: NAME` has all of that recipe's settings, but for those that it names
itself. A component that it names (`guidance: {name: csd, …}`) takes the other's place as a whole if
its name is another one: what is left out then has the component's defaults, not values meant for
something else.
"""

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from dreamlab.core.config import Plain, build, load_yaml
from dreamlab.core.errors import InputError, nearest
from dreamlab.core.locations import configs_dir

Quality = Literal["draft", "standard", "high"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)
DEFAULT_RECIPE = "toybox"
NOT_RECIPES = ("models",)
NOT_INHERITED = ("description", "cost")
"""What every recipe says of itself."""


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """What a recipe file says, before it is merged and checked."""

    stages: dict[str, dict[str, Any]]
    """Stage name to its settings, in the order in which they run."""
    description: str = ""
    """One line for the table of recipes."""
    cost: dict[str, str] = field(default_factory=dict)
    """Quality to the time and memory it takes, measured or marked as estimated."""
    prior: dict[str, Any] = field(default_factory=dict)
    """Settings of the prior."""
    export: dict[str, Any] = field(default_factory=dict)
    """Settings of the export."""
    layout: Any = None
    """Where objects stand: `prompt`, `auto`, a path or a mapping; none: there are no boxes."""
    with_layout: dict[str, Any] = field(default_factory=dict)
    """Settings that change where there are boxes, whoever gave them."""
    quality: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Quality to the settings that it changes."""

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages must name at least one stage")
        for name in (*self.quality, *self.cost):
            if name not in QUALITIES:
                raise ValueError(f"unknown quality {name!r}; {nearest(name, QUALITIES)}")

    @property
    def settings(self) -> Plain:
        """The settings without any quality preset."""
        plain = {"prior": self.prior, "stages": self.stages, "export": self.export}
        return plain | {"layout": self.layout}


def list_recipes() -> list[str]:
    """List the recipes that come with dreamlab, by name."""
    names = (path.stem for path in configs_dir().glob("*.yaml"))
    return sorted(name for name in names if name not in NOT_RECIPES)


def read_recipe(name: str) -> RecipeFile:
    """Read a recipe by its name, or by its path if the name ends in .yaml.

    Raises:
        InputError: there is no such recipe, or its file is not one.
    """
    if name.endswith((".yaml", ".yml")):
        return build(RecipeFile, _extended(load_yaml(Path(name))))
    path = _path(name)
    return copy.deepcopy(_read(path, path.stat().st_mtime_ns))


def _path(name: str) -> Path:
    known = list_recipes()
    if name not in known:
        raise InputError(
            f"unknown recipe {name!r}.",
            f"{nearest(name, known)} `dreamlab recipes` lists them; a path to a .yaml file works.",
        )
    return configs_dir() / f"{name}.yaml"


@functools.cache
def _read(path: Path, changed: int) -> RecipeFile:
    """Read a file of the configs folder once, for processes that resolve recipes all day."""
    return build(RecipeFile, _extended(load_yaml(path)))


def _extended(content: Plain) -> Plain:
    """Put the settings of a recipe that extends another over those of the other."""
    if "extends" not in content:
        return content
    name = content.pop("extends")
    if name not in list_recipes():
        raise InputError(
            f"extends must name a recipe that comes with dreamlab, got {name!r}.",
            nearest(str(name), list_recipes()),
        )
    base = _extended(load_yaml(_path(name)))
    inherited = {key: value for key, value in base.items() if key not in NOT_INHERITED}
    return _over(inherited, content)


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Plain:
    """Merge mappings, but a component with another name takes the place of the one before."""
    merged = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            other = value.get("name", old.get("name")) != old.get("name")
            value = value if other else _over(old, value)
        merged[key] = value
    return merged
