"""Batch files: read to rows. No torch here, and nothing in a file is ever executed.

    .yaml .yml     `defaults`, `prompts` and the axes of a matrix, see `BatchFile`
    .csv           a header of keys, then a row a line; an empty cell is a key that is not given
    .jsonl         a JSON object a line
    .txt           one prompt a line; empty lines and those that begin with # are left out

What is wrong with one row is kept in that row; what makes the file unreadable is raised.
"""

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from dreamlab.core.config import LOADER, build, check_yaml
from dreamlab.core.errors import InputError, nearest
from dreamlab.jobs.batch.rows import FIELDS, LAYOUT, Row, check_field, check_keys, make_row

MAX_CHARACTERS = 20_000_000
MAX_ROWS = 100_000
COMMENT = "#"


@dataclass(frozen=True, slots=True)
class BatchFile:
    """What a YAML file says: every prompt is made with every combination of the axes.

    A key that an entry of `prompts` sets itself is not varied for that entry.
    """

    prompts: list[Any]
    """Texts, or mappings with a `prompt` and whatever is particular to it."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Keys that every row has unless it says otherwise."""
    recipes: list[Any] = field(default_factory=list)
    """An axis: recipes."""
    qualities: list[Any] = field(default_factory=list)
    """An axis: qualities."""
    sweep: dict[str, Any] = field(default_factory=dict)
    """Further axes: a dotted setting to the list of its values."""
    seeds: list[Any] = field(default_factory=list)
    """The innermost axis: seeds."""

    def axes(self) -> dict[str, list[Any]]:
        """Return the axes by the key that each varies, outermost first.

        Raises:
            InputError: an axis is no list of values, or has a key that a row cannot have.
        """
        for key, values in self.sweep.items():
            if key != LAYOUT and "." not in key.strip("."):
                fix = "use recipes, qualities or seeds, or a dotted key of `dreamlab settings`."
                raise InputError(f"sweep cannot vary {key!r}.", fix)
            if not isinstance(values, list) or not values:
                raise InputError(
                    f"sweep.{key} must be a list of values.", f"write sweep: {{{key}: [...]}}."
                )
        named = {"recipe": self.recipes, "quality": self.qualities}
        given = {**named, **self.sweep, "seed": self.seeds}
        for key, values in given.items():
            for value in values:
                if key in FIELDS:
                    check_field(key, value, f"the axis {key!r}")
        return {key: values for key, values in given.items() if values}


def read_rows(path: Path, common: Mapping[str, Any] | None = None) -> list[Row]:
    """Read a batch file; rows come in the order of the file, seeds varying fastest.

    Args:
        path: of the file.
        common: keys that every row has unless the file says otherwise.

    Raises:
        InputError: the file is missing, empty, too long, or not of the kind its name says.
    """
    given = dict(common or {})
    check_keys(given, "the command line")
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".txt": _text_rows}
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        rows = _matrix(build(BatchFile, _yaml_of(_text_of(path), path)), given, path)
    elif suffix in readers:
        rows = list(readers[suffix](_text_of(path), given, path))
    else:
        known = (".yaml", ".yml", *readers)
        raise InputError(f"{path} is no batch file.", nearest(suffix, known))
    if not rows:
        raise InputError(f"{path} has no rows.", "write at least one prompt.")
    if len(rows) > MAX_ROWS:
        raise InputError(f"{path} has {len(rows)} rows, at most {MAX_ROWS} are run.", "divide it.")
    return rows


def _text_of(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror or error}.", "check the path."
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}.", "save it as UTF-8.") from None
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"{path} has {len(text)} characters, at most {MAX_CHARACTERS} are read.", "divide it."
        )
    return text


class _Loader(LOADER):  # type: ignore
    """Reads plain values: no tags, no key twice, and 1e-3 is a number as it is in recipes.

    OmegaConf, which reads recipes, takes no more than 10,000 values.
    """


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        mark = node.start_mark
        raise yaml.MarkedYAMLError(None, None, "a key is no text or comes twice", mark)
    values = [loader.construct_object(value, deep=True) for _, value in node.value]
    return dict(zip(keys, values, strict=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def _yaml_of(text: str, path: Path) -> dict[str, Any]:
    try:
        check_yaml(text, MAX_CHARACTERS)
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise InputError(f"{path} is not valid YAML: {reason}.", "correct the file.") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path} must hold a mapping of names to values, got {type(content).__name__}.",
            "begin it with 'prompts:'.",
        )
    return content


def _matrix(file: BatchFile, common: Mapping[str, Any], path: Path) -> list[Row]:
    """Multiply the prompts of a YAML file by its axes."""
    check_keys(file.defaults, "defaults")
    axes = file.axes()
    if len(file.prompts) * math.prod(map(len, axes.values())) > MAX_ROWS:
        raise InputError(f"{path} has more than {MAX_ROWS} rows.", "divide it, or vary less.")
    rows: list[Row] = []
    for index, entry in enumerate(file.prompts):
        where = f"prompts[{index}]"
        own = {"prompt": entry} if not isinstance(entry, Mapping) else entry
        varied = {key: values for key, values in axes.items() if key not in own}
        for values in product(*varied.values()):
            chosen = dict(zip(varied, values, strict=True))
            rows.append(make_row({**common, **file.defaults, **chosen, **own}, where))
    return rows


def _text_rows(text: str, common: Mapping[str, Any], path: Path) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        prompt = line.strip()
        if prompt and not prompt.startswith(COMMENT):
            yield make_row({**common, "prompt": prompt}, f"line {number}")


def _jsonl_rows(text: str, common: Mapping[str, Any], path: Path) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"line {number}"
            try:
                content = json.loads(line, object_pairs_hook=_without_repeats)
                if not isinstance(content, dict):
                    raise ValueError("it is no object")
            except (ValueError, RecursionError) as error:
                reason = " ".join(str(error).split())[:200]
                fix = 'write an object: {"prompt": "..."}.'
                yield Row(where, error=InputError(f"{where} is not JSON: {reason}.", fix))
                continue
            yield make_row({**common, **content}, where)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key comes twice")
    return content


def _csv_rows(text: str, common: Mapping[str, Any], path: Path) -> Iterator[Row]:
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, path)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _csv_row(header, cells, common, f"line {reader.line_num}")
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}.", "quote cells that have commas or quotes."
        ) from None


def _check_header(header: list[str], path: Path) -> None:
    if "prompt" not in header:
        raise InputError(
            f"{path}: the first line names no column 'prompt'.",
            "begin the file with the names of its columns, such as prompt,seed.",
        )
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"{path}: the column {name!r} comes twice.", "remove one of them.")
        check_keys({name: _SAMPLES.get(name, "")}, f"{path}, column {name!r}")


_SAMPLES = {name: kind() for name, kind in FIELDS.items()}


def _csv_row(header: list[str], cells: list[str], common: Mapping[str, Any], where: str) -> Row:
    """Read a line; whole numbers are read as such, settings as YAML."""
    if len(cells) > len(header):
        error = InputError(
            f"{where} has {len(cells)} cells, the header names {len(header)} columns.",
            "quote cells that have commas.",
        )
        return Row(where, error=error)
    given = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()}
    fields = dict(common)
    for name in FIELDS:
        if name in given:
            fields[name] = _number(given[name]) if FIELDS[name] is int else given[name]
    row = make_row(fields, where)
    settings = {name: cell for name, cell in given.items() if name not in FIELDS}
    try:
        check_keys(settings, where)
    except InputError as error:
        return Row(where, row.prompt, error=error)
    return row if row.error else replace(row, settings=row.settings | settings)


def _number(cell: str) -> Any:
    try:
        return int(cell)
    except ValueError:
        return cell  # refused by name where the row is made
