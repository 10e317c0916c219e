"""What is asked for through a page or over HTTP: a run in the user's words. No torch here.

Whoever sends one may be anybody, so more is refused than on a command line. Text must not name
a file, a folder or a module of this machine: recipes and diffusion models are those that come with
dreamlab, a stage starts from an uploaded model or from the stage before, and components are
those of the package.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamlab.core.config import parse_dotlist
from dreamlab.core.errors import InputError, nearest
from dreamlab.jobs.batch.rows import LAYOUT, Row, check_keys, make_row
from dreamlab.jobs.layouts.given import FROM_WORDS
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE, list_recipes

DEFAULT_QUALITY = "standard"
MAX_SETTINGS = 200
MAX_CHARACTERS = 50_000
"""Of all settings together, as text."""
PLACES = ("/", "\\", "~")
"""What the name of a file may have and a setting may not."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A run that is asked for; plain values, not checked yet."""

    prompt: str
    """What to make."""
    negative_prompt: str = ""
    """What it should not be."""
    recipe: str = DEFAULT_RECIPE
    """One that comes with dreamlab."""
    quality: str | None = None
    """draft, standard or high; none: standard."""
    seed: int = 0
    """Of every random number."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted keys to plain values."""
    priority: int = 0
    """Higher ones are begun first."""
    model: str | None = None
    """The id of an uploaded model that the first stage starts from."""

    def row(self) -> Row:
        """Check what can be checked without the components.

        Raises:
            InputError: a value of a wrong type, a key that is no setting, or text that names a
                place on this machine.
        """
        known = list_recipes()
        if self.recipe not in known:
            raise InputError(
                f"unknown recipe {str(self.recipe)[:80]!r}.", nearest(self.recipe, known)
            )
        content = {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "recipe": self.recipe,
            "quality": DEFAULT_QUALITY if self.quality is None else self.quality,
            "seed": self.seed,
            "priority": self.priority,
        }
        row = make_row(content | checked_settings(self.settings), "the job")
        if row.error is not None:
            raise row.error
        return row


@dataclass(frozen=True, slots=True)
class Changes:
    """How a run that is repeated differs; none: as it was."""

    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted keys to plain values."""
    priority: int = 0

    def overrides(self) -> list[str]:
        """Return the settings as key=value.

        Raises:
            InputError: as for `Wish.row`.
        """
        _, settings = check_keys(checked_settings(self.settings), "the job")
        return [f"{key}={value}" for key, value in settings.items()]


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of which none is more than a setting.

    Raises:
        InputError: too many or too long ones, a key without a dot, a value that has no form in
            YAML, or text that names a place on this machine.
    """
    if len(settings) > MAX_SETTINGS:
        raise InputError(f"there are {len(settings)} settings.", f"send at most {MAX_SETTINGS}.")
    plain, lines = check_keys(settings, "settings")
    if plain:
        name = next(iter(plain))
        raise InputError(f"settings: {name!r} is no setting.", f"give {name} beside the settings.")
    overrides = [f"{key}={value}" for key, value in lines.items()]
    if sum(map(len, overrides)) > MAX_CHARACTERS:
        raise InputError("the settings are too long.", f"send at most {MAX_CHARACTERS} characters.")
    refuse_places(parse_dotlist(overrides))
    return dict(settings)


def refuse_places(content: Any, path: tuple[str, ...] = ()) -> None:
    """Refuse text in settings that names a file or a module.

    Raises:
        InputError: naming the key.
    """
    if isinstance(content, Mapping):
        for key, item in content.items():
            refuse_places(item, (*path, str(key)))
    elif isinstance(content, list | tuple):
        for item in content:
            refuse_places(item, path)
    elif isinstance(content, str):
        _refuse_place(content, path)


def _refuse_place(text: str, path: tuple[str, ...]) -> None:
    key = ".".join(path)[:80]
    if path[-1] == "start_from" and text != "previous":
        raise InputError(
            f"{key} names a file of the server.", "upload the model and give its id as `model`."
        )
    if path[-1] == "name" and "." in text:
        raise InputError(f"{key} names a module.", "use a component that comes with dreamlab.")
    if path == (LAYOUT,) and text not in FROM_WORDS:
        raise InputError(
            f"layout is {text[:40]!r}, which may name a file of the server.",
            f"send {' or '.join(map(repr, FROM_WORDS))}, null, or the boxes.",
        )
    if any(mark in text for mark in PLACES):
        raise InputError(
            f"{key} is {text[:40]!r}, which may name a file of the server.",
            f"send text without {' '.join(PLACES)}",
        )
