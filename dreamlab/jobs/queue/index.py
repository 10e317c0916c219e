"""A table of the runs in a folder, for search and paging: `.index.sqlite`, kept in WAL mode.

The folders are the truth and the table repeats it: `refresh` reads again those whose job.json has
changed, and a table that is missing, damaged or of another version is made anew. Two things do not
show in job.json: that the process of a running job has died, and favourites. Runs that are
recorded as running are looked at every time; of the rest a favourite is a file in the run folder.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dreamlab.core.config import load_yaml
from dreamlab.core.errors import InputError, nearest
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.jobs.state import STATES, Job, State

NAME = ".index.sqlite"
VERSION = 2
COLUMNS = (
    ("name", "TEXT PRIMARY KEY"),
    ("changed", "TEXT"),  # of job.json: time in ns, which is the same for a tick, and inode
    ("state", "TEXT"),
    ("is_orphan", "INTEGER"),  # recorded as running by a process that is gone
    ("prompt", "TEXT"),
    ("seed", "INTEGER"),
    ("recipe", "TEXT"),
    ("quality", "TEXT"),
    ("device", "TEXT"),
    ("host", "TEXT"),
    ("reason", "TEXT"),
    ("phase", "TEXT"),
    ("is_queued", "INTEGER"),
    ("priority", "INTEGER"),
    ("not_before", "REAL"),
    ("created", "REAL"),
    ("started", "REAL"),
    ("finished", "REAL"),
    ("is_favourite", "INTEGER"),
)
ORDERS = {
    "newest": "created DESC, name DESC",
    "oldest": "created, name",
    "prompt": "prompt COLLATE NOCASE, seed, name",
    "queue": "priority DESC, created, name",
}
KNOWN = """SELECT name, changed, is_favourite, state = 'running' OR is_orphan FROM runs"""
BUSY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A run as lists show it; fields as in `state.Job`."""

    root: Path
    """The run folder."""
    state: State
    is_orphan: bool
    """Whether its process died without a word; `state` then is failed."""
    prompt: str
    seed: int
    recipe: str
    quality: str
    device: str
    host: str
    reason: str
    phase: str
    is_queued: bool
    priority: int
    not_before: float
    created: float
    started: float | None
    finished: float | None
    is_favourite: bool
    """Whether the user marked it; retention leaves it alone."""


_NAMES = [field.name for field in fields(Entry)][1:]
SHOWN = ", ".join(["name", *_NAMES])
"""Columns in the order of `Entry`."""
FLAGS = [i for i, name in enumerate(_NAMES) if name.startswith("is_")]


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the runs that were asked for."""

    total: int
    """How many there are in all."""
    entries: list[Entry]
    """Those of this page, in order."""


class Index:
    """The table of one folder of runs; objects may be made freely, in any process or thread."""

    def __init__(self, parent: Path) -> None:
        """Refer to the runs directly inside `parent`; nothing is read yet."""
        self.parent = parent
        self.path = parent / NAME

    def refresh(self) -> None:
        """Bring the table up to date with the folders.

        Raises:
            InputError: the folder cannot be read or written.
        """
        if not self.parent.is_dir():
            return
        try:
            self._refresh()
        except sqlite3.OperationalError as error:
            raise InputError(
                f"{self.path} cannot be used: {error}.",
                "check the free space on the disk and that you may write to the folder.",
            ) from None
        except sqlite3.DatabaseError:  # damaged: made anew
            self.rebuild()

    def rebuild(self) -> None:
        """Make the table anew from the folders."""
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(NAME + suffix).unlink(missing_ok=True)
        self._refresh()

    def search(
        self,
        text: str = "",
        *,
        states: Sequence[str] = (),
        only_favourites: bool = False,
        order: str = "newest",
        offset: int = 0,
        limit: int = 50,
        refresh: bool = True,
    ) -> Page:
        """Find runs; the table is brought up to date first.

        Args:
            text: every word of it must occur in prompt, name of the folder or recipe.
            states: one of these; empty: any.
            only_favourites: leave out the others.
            order: newest, oldest, prompt or queue.
            offset: runs to skip.
            limit: runs of a page.
            refresh: look at every folder first; who asks often and calls `refresh` itself need not.

        Raises:
            InputError: an unknown state or order, or a folder that cannot be read.
        """
        for wrong in set(states) - set(STATES):
            raise InputError(f"unknown state {wrong!r}.", nearest(wrong, STATES))
        if order not in ORDERS:
            raise InputError(f"unknown order {order!r}.", nearest(order, ORDERS))
        where, values = ["1"], []
        for word in text.split():
            escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            where.append("(prompt || ' ' || name || ' ' || recipe) LIKE ? ESCAPE '\\'")
            values.append(f"%{escaped}%")
        if states:
            where.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        if only_favourites:
            where.append("is_favourite")
        if refresh:
            self.refresh()
        return self._select(" AND ".join(where), values, ORDERS[order], offset, limit)

    def count(self, *, refresh: bool = True) -> dict[str, int]:
        """Count the runs in each state; `refresh` as in `search`."""
        if refresh:
            self.refresh()
        if not self.path.exists():
            return {}
        with self._open() as table:
            return dict(table.execute("SELECT state, COUNT(*) FROM runs GROUP BY state"))

    def _select(
        self, where: str, values: Sequence[Any], order: str, offset: int, limit: int
    ) -> Page:
        if not self.path.exists():
            return Page(0, [])
        with self._open() as table:
            (total,) = table.execute(f"SELECT COUNT(*) FROM runs WHERE {where}", values).fetchone()
            rows = table.execute(
                f"SELECT {SHOWN} FROM runs WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?",
                [*values, limit, offset],
            ).fetchall()
        return Page(total, [self._entry(row) for row in rows])

    def _entry(self, row: sqlite3.Row) -> Entry:
        name, *values = row
        for place in FLAGS:
            values[place] = bool(values[place])
        return Entry(self.parent / name, *values)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as table:
            table.row_factory = sqlite3.Row
            table.execute("PRAGMA journal_mode = WAL")
            table.execute("PRAGMA synchronous = NORMAL")  # it can always be made anew
            yield table

    def _refresh(self) -> None:
        with self._open() as table, table:
            table.isolation_level = None
            if table.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                table.execute("BEGIN IMMEDIATE")
                table.execute("DROP TABLE IF EXISTS runs")
                columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS)
                table.execute(f"CREATE TABLE runs ({columns})")
                table.execute("CREATE INDEX by_state ON runs (state)")
                table.execute("CREATE INDEX by_age ON runs (created)")
                table.execute(f"PRAGMA user_version = {VERSION}")
                table.execute("COMMIT")
            known = {
                name: (changed, bool(is_marked), is_open)
                for name, changed, is_marked, is_open in table.execute(KNOWN)
            }
            fresh: list[tuple[Any, ...]] = []
            seen: set[str] = set()
            for name, changed, is_marked in self._folders():
                seen.add(name)
                if known.get(name) != (changed, is_marked, 0):
                    row = _row(RunFolder(self.parent / name), changed, is_marked)
                    if row is not None:
                        fresh.append(row)
            gone = [(name,) for name in known.keys() - seen]
            if fresh or gone:
                table.execute("BEGIN IMMEDIATE")
                table.executemany("DELETE FROM runs WHERE name = ?", gone)
                marks = ", ".join("?" * len(COLUMNS))
                table.executemany(f"INSERT OR REPLACE INTO runs VALUES ({marks})", fresh)
                table.execute("COMMIT")

    def _folders(self) -> Iterator[tuple[str, str, bool]]:
        """Name the runs, with what changes whenever their job.json does, and favourites.

        There may be thousands, and all are looked at: plain strings take a tenth of the time that
        a `RunFolder` does.
        """
        with os.scandir(self.parent) as found:
            for item in found:
                if item.name.startswith("."):
                    continue
                try:
                    job = os.stat(f"{item.path}/job.json")
                except OSError:
                    continue  # no run, or gone by now
                changed = f"{job.st_mtime_ns} {job.st_ino}"
                yield item.name, changed, os.path.exists(f"{item.path}/favourite")


def _row(folder: RunFolder, changed: str, is_marked: bool) -> tuple[Any, ...] | None:
    try:
        record = state.read_record(folder)
        job = state.read(folder) if record.state == "running" else record
    except InputError as error:
        if not folder.job.exists():
            return None
        record = job = Job(state="failed", reason=error.message)
    if not job.prompt:
        job = _described(folder, job)
    is_orphan = record.state == "running" and job.state == "failed"
    own = {
        "name": folder.root.name,
        "changed": changed,
        "is_orphan": is_orphan,
        "is_favourite": is_marked,
    }
    return tuple(own[name] if name in own else getattr(job, name) for name, _ in COLUMNS)


def _described(folder: RunFolder, job: Job) -> Job:
    """Fill in what runs of earlier versions say in their config.yaml alone."""
    try:
        config = load_yaml(folder.config)
    except InputError:
        return replace(job, prompt=folder.root.name)
    about = {name: config.get(name) for name in ("prompt", "seed", "recipe", "quality")}
    kinds = {"prompt": str, "seed": int, "recipe": str, "quality": str}
    known = {name: value for name, value in about.items() if type(value) is kinds[name]}
    return replace(job, **{"prompt": folder.root.name} | known)
