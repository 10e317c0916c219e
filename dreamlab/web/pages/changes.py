"""What was changed in an edited config.yaml, as dotted settings; and the command that repeats it.

The page knows one way to change a run: settings by dotted key, as on the command line. So an edited
file is compared with the one that it was made from, and only the differences are kept.
"""

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from dreamlab.core.config import Plain, parse_yaml
from dreamlab.core.errors import InputError

ABOUT = ("prompt", "negative_prompt", "seed")
"""Keys of a run's file that have their own fields on the page."""
FIXED = ("recipe", "quality", "version")
"""Keys that choose other settings, so they cannot be edited in the file."""


def differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Plain:
    """Return the settings of `after` that differ from `before`, by dotted key.

    A schedule that takes the place of a number is one value. A component that takes the place of
    another has settings of its own, so none of the other's is missed.

    Raises:
        InputError: a setting was removed; every one needs a value.
    """
    found: Plain = {}
    is_another = "name" in after and after["name"] != before.get("name")
    gone = [f"{path}{key}" for key in before if key not in after]
    if gone and not is_another:
        raise InputError(f"{gone[0]!r} is missing.", "give it a value; settings have no gaps.")
    for key, value in after.items():
        place = f"{path}{key}"
        old = before.get(key)
        if key in before and value == old and type(value) is type(old):
            continue
        if isinstance(value, dict) and isinstance(old, dict):
            found |= differences(old, value, f"{place}.")
        else:
            found[place] = value
    return found


def flat(content: Mapping[str, Any], path: str = "") -> Plain:
    """Return the leaves of nested mappings by dotted key."""
    leaves: Plain = {}
    for key, value in content.items():
        place = f"{path}{key}"
        leaves |= flat(value, f"{place}.") if isinstance(value, dict) and value else {place: value}
    return leaves


def split_about(changed: Plain) -> tuple[Plain, Plain]:
    """Divide differences into those with a field of their own on the page, and settings.

    Raises:
        InputError: the recipe, the quality or the version was changed.
    """
    for key in FIXED:
        if key in changed:
            raise InputError(f"{key!r} cannot be changed here.", "choose it in the form.")
    about = {key: value for key, value in changed.items() if key in ABOUT}
    return about, {key: value for key, value in changed.items() if key not in ABOUT}


def as_text(value: object) -> str:
    """Write a plain value as the right side of KEY=VALUE."""
    if isinstance(value, str):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def plain(text: str) -> Any:
    """Read the right side of KEY=VALUE.

    Raises:
        InputError: it is no YAML.
    """
    return parse_yaml(f"value: {text}", repr(text))["value"]


def command(
    prompt: str,
    *,
    negative_prompt: str,
    recipe: str,
    quality: str,
    seed: int,
    settings: Mapping[str, Any],
) -> str:
    """Return the command line that makes the same run, quoted for a POSIX shell."""
    words = ["dreamlab", "generate", prompt or "a red mushroom", "--recipe", recipe]
    words += ["--quality", quality, "--seed", str(seed)]
    if negative_prompt:
        words += ["--negative", negative_prompt]
    words += [f"{key}={as_text(value)}" for key, value in settings.items()]
    return shlex.join(words)
