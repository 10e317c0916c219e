"""A batch resolved: every row with its settings spelled out, and the run folder that it belongs to.

The name of a row's folder ends in a digest of all its settings but the version of dreamlab. So
a row is known again when the batch is run again, wherever it then stands in the file, and a row
whose settings have changed is another row. A row that comes twice is run once.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dreamlab.core.config import to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import slug
from dreamlab.jobs.batch.rows import Row
from dreamlab.jobs.recipes import SAMPLE_PROMPT, RunConfig, load_recipe

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
    """Resolves rows, and remembers recipes with their settings."""

    def __init__(self, overrides: Sequence[str]) -> None:
        self.overrides = overrides
        self._known: dict[tuple[str, ...], tuple[RunConfig, str] | InputError] = {}

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
        """Resolve a recipe with settings, for any prompt; also return their digest."""
        key = (row.recipe, row.quality, *row.overrides)
        if key not in self._known:
            try:
                overrides = [*self.overrides, *row.overrides]
                config = load_recipe(row.recipe, row.quality, overrides, prompt=SAMPLE_PROMPT)
                plain = to_plain(replace(config, seed=0)) | {"version": None}
                self._known[key] = config, _digest(json.dumps(plain, sort_keys=True))
            except InputError as error:
                self._known[key] = error
        known = self._known[key]
        if isinstance(known, InputError):
            raise known
        return known


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
