"""Configuration: layers of plain mappings, read by OmegaConf, then built into frozen dataclasses.

A component's settings are a frozen dataclass beside its code. Layers (recipe file, presets,
dotlist) are merged as plain mappings first; `build` then turns the result into the dataclass,
checking every key and type. An unknown key, a wrong type or a value that the dataclass refuses
raises `InputError` with the full path of the key, what was got and what is allowed.
"""

import ast
import dataclasses
import inspect
import math
import textwrap
import types
from collections.abc import Mapping, Sequence
from functools import cache
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    ScalarEvent,
    YAMLError,
)
from yaml import parse as yaml_events

from dreamlab.core.errors import InputError, nearest
from dreamlab.core.schedules import Schedule

T = TypeVar("T")
Plain = dict[str, Any]
"""A mapping of strings to numbers, strings, booleans, None, lists and such mappings."""

MAX_DEPTH = 32
MAX_CHARACTERS = 200_000
MAX_INTEGER_BITS = 64
UNREADABLE = (
    YAMLError,
    OmegaConfBaseException,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    OSError,
)
"""What OmegaConf and PyYAML raise on content they cannot take."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Tells the same events as the slow one."""

SCHEDULE_KEYS = {"from": "start", "to": "stop", "begin": "begin", "end": "end", "ease": "ease"}


def load_yaml(path: Path) -> Plain:
    """Read a YAML file into a plain mapping.

    Raises:
        InputError: the file is missing, is not YAML, or is not a mapping.
    """
    return parse_yaml(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror or error}.", "check the path."
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}.", "save it as UTF-8.") from None


def parse_yaml(text: str, where: str) -> Plain:
    """Read YAML text into a plain mapping; `where` names it in messages.

    Raises:
        InputError: it is not YAML, or is not a mapping.
    """
    try:
        check_yaml(text)
        content = OmegaConf.to_container(OmegaConf.load(StringIO(text)), resolve=True)
    except UNREADABLE as error:
        raise InputError(
            f"{where} is not valid YAML: {_one_line(error)}.", "correct the file."
        ) from None
    return _as_mapping(content, where)


def parse_literal_yaml(text: str, where: str) -> Plain:
    """Read YAML text of another program as `parse_yaml` does, but `${...}` stays as it is written.

    Raises:
        InputError: it is not YAML, or is not a mapping.
    """
    try:
        check_yaml(text, literal=True)
        content = yaml.load(text, Loader=LOADER)
    except UNREADABLE as error:
        raise InputError(
            f"{where} is not valid YAML: {_one_line(error)}.", "correct the file."
        ) from None
    return _as_mapping(content, where)


def check_yaml(text: str, max_characters: int = MAX_CHARACTERS, *, literal: bool = False) -> None:
    """Refuse text that could take unbounded time to read, or that asks for values from elsewhere.

    OmegaConf would put environment variables in the place of `${oc.env:NAME}`; where it does not
    read the text (`literal`), such a value is only text.

    Raises:
        ValueError: it is longer or deeper than allowed, or has aliases or interpolations.
        YAMLError: it is not YAML.
    """
    if len(text) > max_characters:
        raise ValueError(f"it has {len(text)} characters, at most {max_characters} are read")
    depth = 0
    for event in yaml_events(text, Loader=LOADER):
        if isinstance(event, AliasEvent):
            raise ValueError(f"aliases (*{event.anchor}) are not supported, write the value out")
        if isinstance(event, ScalarEvent) and "${" in event.value and not literal:
            raise ValueError("interpolation (${...}) is not supported, write the value out")
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


def _as_mapping(content: object, where: str) -> Plain:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(
            f"{where} must hold a mapping of names to values, got {type(content).__name__}.",
            "write lines of the form 'key: value'.",
        )
    return content


def parse_dotlist(assignments: Sequence[str]) -> Plain:
    """Turn `["stages.nerf.steps=300", ...]` into a nested mapping; values are YAML.

    Raises:
        InputError: an entry is not of the form key=value, or its value is not YAML.
    """
    layers: list[Plain] = []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise InputError(
                f"{assignment!r} is not of the form key=value.",
                "write overrides as dotted keys, such as stages.nerf.steps=300.",
            )
        try:
            check_yaml(value)
            layer = OmegaConf.to_container(OmegaConf.from_dotlist([assignment]), resolve=True)
        except UNREADABLE as error:
            raise InputError(
                f"{_show(assignment)} cannot be read: {_one_line(error)}.",
                "quote it, or write it as YAML.",
            ) from None
        layers.append(_as_mapping(layer, assignment))
    return merge(*layers)


def merge(*layers: Mapping[str, Any]) -> Plain:
    """Merge mappings, later layers over earlier ones; lists are replaced, mappings merged."""
    merged: Plain = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                old = merged.get(key)
                value = merge(old, value) if isinstance(old, Mapping) else merge(value)
            merged[key] = value
    return merged


def dump_yaml(content: Mapping[str, Any]) -> str:
    """Write a plain mapping as YAML, keys in their order."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(content)))


@cache
def _hints(cls: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields; there are few classes, and many are built."""
    return get_type_hints(cls)


def build(cls: type[T], content: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from a plain mapping, checking keys, types and values.

    Args:
        cls: a dataclass; fields may be numbers, strings, booleans, `Literal`, `Scalar`, tuples,
            lists, mappings, unions of these and dataclasses.
        content: names to plain values; missing keys take the dataclass's defaults.
        where: dotted path of `content`, for messages.

    Raises:
        InputError: unknown or missing key, wrong type, or a value the dataclass refuses.
    """
    hints = _hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in content:
        if key not in fields:
            raise InputError(f"unknown key {_show(_join(where, key))}.", nearest(key, fields))
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in content:
            values[name] = _convert(hints[name], content[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"{_join(where, name)!r} is missing.", f"set {_join(where, name)}=….")
    try:
        return cls(**values)
    except ValueError as error:
        raise InputError(f"{where or 'settings'}: {error}.", "change the value.") from None


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _refuse(where: str, value: object, allowed: str) -> InputError:
    return InputError(f"{where} must be {allowed}, got {_show(value)}.", f"change {where}.")


def _show(value: object) -> str:
    """Write a value for a message: on one line and not longer than a line."""
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        return "a huge whole number"
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:79] + "…"


def _convert(hint: Any, value: Any, where: str) -> Any:
    if where.count(".") > MAX_DEPTH:
        raise InputError(f"{where[:80]}… is nested too deeply.", "flatten the settings.")
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if not any(type(value) is type(allowed) and value == allowed for allowed in arguments):
            allowed = nearest(str(value)[:80], map(str, arguments))
            raise InputError(f"{where} is {_show(value)}.", allowed)
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if hint is Schedule:
        return _convert_schedule(value, where)
    if dataclasses.is_dataclass(hint):
        return build(hint, _as_mapping(value, where), where)  # type: ignore[arg-type]
    if origin in (tuple, list):
        return _convert_sequence(origin, arguments, value, where)
    if origin is dict:
        items = _as_mapping(value, where).items()
        return {key: _convert(arguments[1], item, _join(where, key)) for key, item in items}
    return _convert_leaf(hint, value, where)


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    if Schedule in options:
        return _convert(Schedule if isinstance(value, dict) else float, value, where)
    refused: InputError | None = None
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(option, value, where)
        except InputError as error:
            refused = error
    assert refused is not None
    raise refused


def _convert_schedule(value: Any, where: str) -> Schedule:
    content = _as_mapping(value, where)
    for key in content:
        if key not in SCHEDULE_KEYS:
            raise InputError(f"unknown key {_join(where, key)!r}.", nearest(key, SCHEDULE_KEYS))
    return build(Schedule, {SCHEDULE_KEYS[key]: item for key, item in content.items()}, where)


def _convert_sequence(origin: Any, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _refuse(where, value, "a list")
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        if len(value) != len(arguments):
            raise _refuse(where, value, f"a list of {len(arguments)} values")
        hints: Sequence[Any] = arguments
    else:
        hints = [arguments[0]] * len(value)
    pairs = enumerate(zip(hints, value, strict=True))
    return origin(_convert(hint, item, f"{where}[{i}]") for i, (hint, item) in pairs)


def _convert_leaf(hint: Any, value: Any, where: str) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise _refuse(where, value, f"a number of at most {MAX_INTEGER_BITS} bits")
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise _refuse(where, value, "a finite number")
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
    raise _refuse(where, value, names.get(hint, str(hint)))


def to_plain(value: Any) -> Any:
    """Turn a built configuration back into plain mappings; `build` of the result is identity."""
    if isinstance(value, Schedule):
        return {key: getattr(value, name) for key, name in SCHEDULE_KEYS.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: to_plain(getattr(value, f.name)) for f in fields if f.init}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


@cache
def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring written under each field of a dataclass, joined into one line.

    Fields that it inherits come first, as they do in the dataclass.
    """
    docs: dict[str, str] = {}
    for base in reversed(cls.__bases__):
        if dataclasses.is_dataclass(base):
            docs |= field_docs(base)
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    for statement, following in pairwise(body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            docs[statement.target.id] = " ".join(following.value.value.split())
    return docs
