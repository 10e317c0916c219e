"""A batch that was started from the page: its rows, and which run each became.

    <runs>/.batches/<id>.json    {"rows": [{...fields of Batched...}]}

Each row becomes an ordinary queued run, so supervisors, the gallery and the API treat it as any
other. The record is written before the first row is queued and after each, so a server that is
killed in the middle leaves rows that wait here, and `queue_rows` goes on with them; so does a queue
that is full. No row is queued twice, except the one during which the server was killed.
"""

import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from dreamlab.core.config import build
from dreamlab.core.errors import DreamlabError, InputError
from dreamlab.core.run_folder import slug, write_json
from dreamlab.jobs import lock
from dreamlab.jobs.batch.files import read_rows
from dreamlab.jobs.batch.rows import Row
from dreamlab.jobs.lock import BusyError
from dreamlab.jobs.queue.desk import DeskError
from dreamlab.jobs.queue.wish import Wish
from dreamlab.web.errors import TooManyError
from dreamlab.web.pages.changes import plain
from dreamlab.web.service import Service

FOLDER = ".batches"
MAX_ROWS = 200
"""Of a batch on the page; `dreamlab batch` takes more."""
IDENTITY = re.compile(r"[a-z0-9-]{1,80}")
PASSING = (TooManyError, DeskError)
"""What does not lie with a row: it can be queued later."""


@dataclass(frozen=True, slots=True)
class Batched:
    """A row and what came of it."""

    prompt: str
    negative_prompt: str = ""
    recipe: str = ""
    quality: str = ""
    seed: int = 0
    priority: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    """Dotted keys to plain values."""
    seconds: float | None = None
    """What it is estimated to take."""
    name: str = ""
    """Of its run; empty if it was not queued."""
    reason: str = ""
    """Why it cannot be run; empty if it can."""
    fix: str = ""

    def wish(self) -> Wish:
        """Return what is asked for."""
        return Wish(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            recipe=self.recipe,
            quality=self.quality,
            seed=self.seed,
            settings=self.settings,
            priority=self.priority,
        )


def read_batch(service: Service, path: Path) -> list[Batched]:
    """Read a batch file and check every row; one that is wrong keeps its reason.

    Raises:
        InputError: the file cannot be read, or has too many rows.
    """
    rows = read_rows(path)
    if len(rows) > MAX_ROWS:
        raise InputError(
            f"the file has {len(rows)} rows, at most {MAX_ROWS} are taken here.",
            "divide it, or run `dreamlab batch` with it.",
        )
    return [_checked(service, row) for row in rows]


def _checked(service: Service, row: Row) -> Batched:
    known = Batched(
        row.prompt, row.negative_prompt, row.recipe, row.quality, row.seed, row.priority
    )
    try:
        if row.error is not None:
            raise row.error
        known = replace(known, settings={key: plain(text) for key, text in row.settings.items()})
        estimate = service.check(known.wish()).estimate
    except DreamlabError as error:
        return replace(known, reason=error.message, fix=error.fix)
    return replace(known, seconds=estimate.seconds if estimate else None)


def begin(service: Service, title: str, rows: Sequence[Batched]) -> str:
    """Write the record of a new batch and return its id; nothing is queued yet.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError("there are no rows.", "check some first.")
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{slug(title)}"
    (service.runs / FOLDER).mkdir(exist_ok=True)
    for number in count(1):
        identity = name if number == 1 else f"{name}-{number}"
        try:
            _path(service, identity).touch(exist_ok=False)
        except FileExistsError:
            continue  # begun in the same second
        _write(service, identity, rows)
        return identity
    raise AssertionError


def queue_rows(service: Service, identity: str) -> list[Batched]:
    """Queue the rows that are not queued yet and can be; a row that fails keeps its reason.

    Where another page or server is at it, this leaves it to that one: no row is queued twice.

    Raises:
        InputError: there is no such batch.
        TooManyError: the queue is full; the rows that are left wait.
        DeskError: the process that checks settings has died; likewise.
    """
    rows = load(service, identity)
    queueing = _path(service, identity).with_suffix(".lock")
    with suppress(BusyError), lock.hold(queueing, beat=False):
        rows = load(service, identity)
        for number, row in enumerate(rows):
            if row.name or row.reason:
                continue
            try:
                rows[number] = replace(row, name=service.submit(row.wish()).root.name)
            except PASSING:
                raise
            except DreamlabError as error:
                rows[number] = replace(row, reason=error.message, fix=error.fix)
            _write(service, identity, rows)
    return rows


def load(service: Service, identity: str) -> list[Batched]:
    """Read the record of a batch.

    Raises:
        InputError: there is none of this id, or it is not one of ours.
    """
    try:
        content = json.loads(_path(service, identity).read_text(encoding="utf-8"))
        return [build(Batched, row) for row in content["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"there is no batch {identity[:80]!r}.", "choose one from the list, or start a new one."
        ) from None


def known_batches(service: Service) -> list[str]:
    """List the ids of all batches, the newest first."""
    paths = (service.runs / FOLDER).glob("*.json")
    return sorted((path.stem for path in paths if not path.name.startswith(".")), reverse=True)


def _path(service: Service, identity: str) -> Path:
    if not IDENTITY.fullmatch(identity):
        raise InputError(f"{identity[:80]!r} is no batch.", "choose one from the list.")
    return service.runs / FOLDER / f"{identity}.json"


def _write(service: Service, identity: str, rows: Sequence[Batched]) -> None:
    write_json(_path(service, identity), {"rows": [asdict(row) for row in rows]})
