"""A batch resolved: every row with its settings spelled out, and the run folder that it belongs to.

The name of a row's folder ends in a digest of all its settings but the version of dreamlab. So
a row is known again when the batch is run again, wherever it then stands in the file, and a row
whose settings have changed is another row. A row that comes twice is run once.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dreamlab.core.config import to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import slug
from dreamlab.jobs.batch.rows import Row
from dreamlab.jobs.layouts.given import given_layout
from dreamlab.jobs.recipes import SAMPLE_PROMPT, RunConfig, layout_from_words, load_recipe
from dreamlab.systems.per_object import check_per_object

T = TypeVar("T")
Key = tuple[str, ...]
"""Recipe, quality and settings."""
DIGITS = 10
"""Of the digest; with 100,000 rows two differ by chance in all but one of 200 batches."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A row that is going to be run, or why it is not."""

    number: int
    """Its place in the matrix, from 1."""
    row: Row
    """As it was asked for."""
    config: RunConfig | None
    """All settings; None if they are refused."""
    name: str
    """Of its run folder; empty if it has none."""
    error: InputError | None = None
    """Why it fails."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All rows of a batch."""

    rows: list[Planned]
    repeated: list[tuple[int, int]]
    """Rows that ask for what an earlier row asks for: the number that they would have, and that
    of the earlier one."""


def make_plan(rows: Sequence[Row], overrides: Sequence[str] = ()) -> Plan:
    """Resolve rows; settings that many rows share are resolved once.

    Args:
        rows: as they were read.
        overrides: `key=value` for every row that does not set that key.

    Raises:
        InputError: there is no row that can be run; it is the error of the first one.
    """
    resolver = Resolver(overrides)
    planned: list[Planned] = []
    repeated: list[tuple[int, int]] = []
    numbers: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        one = resolver.plan(number, row)
        if one.name and one.name in numbers:
            repeated.append((number, numbers[one.name]))
            continue
        if one.name:
            numbers[one.name] = number
        planned.append(one)
    if not numbers:
        first = planned[0].error
        assert first is not None
        raise first
    return Plan(planned, repeated)


class Resolver:
    """Resolves rows, and remembers recipes with their settings.

    All that follows from a prompt is the layout which its words may say, and, in a recipe that
    changes settings where there is one, whether they say one. So each recipe with its settings is
    resolved once for prompts with a layout and once for those without.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.overrides = overrides
        self._bases: dict[Key, tuple[RunConfig, str] | InputError] = {}
        self._readings: dict[Key, str | InputError | None] = {}

    def plan(self, number: int, row: Row) -> Planned:
        if row.error is not None:
            return Planned(number, row, None, "", row.error)
        try:
            base, digest = self._base(row)
            config = replace(
                base, prompt=row.prompt, negative_prompt=row.negative_prompt, seed=row.seed
            )
        except ValueError as error:  # RunConfig refuses a prompt
            refused = InputError(f"{row.where}: {error}.", "change it.")
            return Planned(number, row, None, "", refused)
        except InputError as error:
            refused = InputError(f"{row.where}: {error.message}", error.fix)
            return Planned(number, row, None, "", refused)
        own = json.dumps([digest, row.prompt, row.negative_prompt, row.seed])
        name = f"{slug(row.prompt)}-{row.seed}-{_digest(own)[:DIGITS]}"
        return Planned(number, row, config, name)

    def _base(self, row: Row) -> tuple[RunConfig, str]:
        """Resolve the settings of a row, its layout among them; also return their digest."""
        reading = _once(self._readings, _key(row), lambda: self._reading(row))
        layout = None if reading is None else given_layout(reading, row.prompt)
        if reading is None or layout is None:
            return _once(self._bases, _key(row), lambda: self._resolved(row, SAMPLE_PROMPT))
        config, digest = _once(
            self._bases, (*_key(row), reading), lambda: self._resolved(row, row.prompt, reading)
        )
        check_per_object(config.stages, layout)
        return replace(config, layout=layout), digest

    def _reading(self, row: Row) -> str | None:
        return layout_from_words(row.recipe, row.quality, self._all(row))

    def _resolved(self, row: Row, prompt: str, reading: str | None = None) -> tuple[RunConfig, str]:
        """Resolve a recipe with settings; the digest is that of all prompts of this kind."""
        config = load_recipe(row.recipe, row.quality, self._all(row), prompt=prompt)
        plain = to_plain(replace(config, prompt=SAMPLE_PROMPT, seed=0)) | {"version": None}
        plain |= {} if reading is None else {"layout": reading}
        return config, _digest(json.dumps(plain, sort_keys=True))

    def _all(self, row: Row) -> list[str]:
        return [*self.overrides, *row.overrides]


def _key(row: Row) -> Key:
    return row.recipe, row.quality, *row.overrides


def _once(known: dict[Key, T | InputError], key: Key, find: Callable[[], T]) -> T:
    """Find something once; what was refused is refused again."""
    if key not in known:
        try:
            known[key] = find()
        except InputError as error:
            known[key] = error
    found = known[key]
    if isinstance(found, InputError):
        raise found
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
