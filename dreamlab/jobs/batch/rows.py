"""A row of a batch: what is asked for, with its keys checked. No torch here.

A row is a mapping. A key without a dot is one of `FIELDS`; a key with dots, and `layout`, is
a setting of the run, as in `dreamlab generate "..." KEY=VALUE`. That is so in every kind of file:
a key of YAML or JSON Lines is a column of CSV.

A row that cannot be read keeps the reason (`error`) and harms no other row.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamlab.core.errors import InputError, nearest
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE

MAX_SHOWN = 60
"""Characters of a value that an error shows."""
MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One run that is asked for."""

    where: str = ""
    """Its place in the file, for messages."""
    prompt: str = ""
    """What to make."""
    negative_prompt: str = ""
    """What it should not be."""
    seed: int = 0
    """Of every random number."""
    recipe: str = DEFAULT_RECIPE
    """A recipe's name, or the path of a .yaml file."""
    quality: str = "standard"
    """draft, standard or high."""
    priority: int = 0
    """Rows with higher ones are begun first."""
    settings: dict[str, str] = field(default_factory=dict)
    """Keys of settings to values, written as YAML."""
    error: InputError | None = None
    """Why it cannot be run; None if it can, as far as is known."""

    @property
    def overrides(self) -> tuple[str, ...]:
        """The settings as key=value."""
        return tuple(f"{key}={value}" for key, value in self.settings.items())


FIELDS: dict[str, type] = {
    "prompt": str,
    "negative_prompt": str,
    "seed": int,
    "recipe": str,
    "quality": str,
    "priority": int,
}
LAYOUT = "layout"
"""The one setting without a dot: null, `prompt`, `auto`, a file, or written out."""
KIND_NAMES = {str: "text", int: "a whole number"}


def make_row(content: Mapping[str, Any], where: str) -> Row:
    """Read a row; one that is wrong comes back with its error."""
    try:
        fields, settings = check_keys(content, where)
        if not isinstance(fields.get("prompt"), str):
            raise InputError(f"{where}: there is no prompt.", f"give {where} a prompt.")
    except InputError as error:
        prompt = content.get("prompt")
        shown = prompt if isinstance(prompt, str) and prompt.isprintable() else ""
        return Row(where, shown, error=error)
    return Row(where=where, settings=settings, **fields)


def check_keys(content: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Divide a row into its fields and its settings.

    Raises:
        InputError: an unknown key, or a value of a wrong type.
    """
    fields: dict[str, Any] = {}
    settings: dict[str, str] = {}
    for key, value in content.items():
        if not isinstance(key, str):
            raise InputError(f"{where}: {_show(key)} is not a key.", "write keys as text.")
        if key in FIELDS:
            fields[key] = check_field(key, value, where)
        elif key == LAYOUT or "." in key.strip("."):
            settings[key] = value_as_text(key, value, where)
        else:
            raise InputError(
                f"{where}: unknown key {_show(key)}.",
                f"{nearest(key, FIELDS)} Settings of a run have dots, see `dreamlab settings`.",
            )
    return fields, settings


def check_field(key: str, value: object, where: str) -> Any:
    """Return the value of a field.

    Raises:
        InputError: it is of a wrong type, or asks for a value from elsewhere.
    """
    if type(value) is not FIELDS[key] or (isinstance(value, int) and abs(value) > MAX_INTEGER):
        kind = KIND_NAMES[FIELDS[key]]
        raise InputError(f"{where}: {key} must be {kind}, got {_show(value)}.", f"change {key}.")
    if isinstance(value, str):
        _refuse_interpolation(key, value, where)
    return value


def value_as_text(key: str, value: object, where: str) -> str:
    """Write the value of a setting as YAML.

    Raises:
        InputError: it has no such form, or asks for a value from elsewhere.
    """
    _refuse_interpolation(key, key, where)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        raise InputError(
            f"{where}: {key} cannot be {_show(value)}.", "give a number, text, a list or a mapping."
        ) from None
    _refuse_interpolation(key, text, where)
    return text


def _refuse_interpolation(key: str, text: str, where: str) -> None:
    if "${" in text:
        raise InputError(
            f"{where}: {_show(key)} has an interpolation (${{...}}), which is not supported.",
            "write the value out.",
        )


def _show(value: object) -> str:
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "a huge whole number"
    shown = repr(value)
    return shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 1] + "…"
