"""Recipe files: which there are and what is written in them. No torch here.

A recipe is a YAML file in the configs folder; its file name is its name. Top level keys:
`description` (one line), `cost` (what each quality takes), `prior`, `stages` (a mapping by name, in
order), `export`, and `quality`, a mapping from the name of a quality to the settings that it
changes.
"""

import copy
import functools
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


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """What a recipe file says, before it is merged and checked."""

    description: str
    """One line for the table of recipes."""
    cost: dict[str, str]
    """Quality to the time and memory it takes, measured."""
    stages: dict[str, dict[str, Any]]
    """Stage name to its settings, in the order in which they run."""
    prior: dict[str, Any] = field(default_factory=dict)
    """Settings of the prior."""
    export: dict[str, Any] = field(default_factory=dict)
    """Settings of the export."""
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
        return {"prior": self.prior, "stages": self.stages, "export": self.export}


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
        return build(RecipeFile, load_yaml(Path(name)), where="")
    known = list_recipes()
    if name not in known:
        raise InputError(
            f"unknown recipe {name!r}.",
            f"{nearest(name, known)} `dreamlab recipes` lists them; a path to a .yaml file works.",
        )
    path = configs_dir() / f"{name}.yaml"
    return copy.deepcopy(_read(path, path.stat().st_mtime_ns))


@functools.cache
def _read(path: Path, changed: int) -> RecipeFile:
    """Read a file of the configs folder once, for processes that resolve recipes all day."""
    return build(RecipeFile, load_yaml(path))
