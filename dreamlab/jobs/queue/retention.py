"""Disk space: what of finished runs may be removed, and when the queue must wait.

Checkpoints are most of a finished run's size and are of use only for another export. They are
removed from runs that are done or cancelled, the one that ended first going first: those older
than `checkpoint_days`, and more while all runs together are larger than the quota. Exports,
pictures, reports and settings are left alone, and so are favourites and runs that can be resumed.
Models that users have uploaded go after `model_days` without use, and before anything of a run
where space is short, unless an unfinished run needs them (`models`).
Only with `delete_runs` are whole runs removed, in the same order, when checkpoints were not enough.
"""

import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.jobs.queue import actions, models
from dreamlab.jobs.queue.index import Entry, Index

GB = 1e9
DAY = 86400.0
FINISHED: tuple[state.State, ...] = ("done", "cancelled")


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept."""

    quota_gb: float | None = None
    """Most that all runs may take together, GB; None: no limit."""
    checkpoint_days: float | None = None
    """Age at which the checkpoints of finished runs are removed; None: never."""
    model_days: float | None = 30.0
    """Age without use at which uploaded models are removed; None: never."""
    delete_runs: bool = False
    """Whether whole finished runs may be removed to stay within the quota."""

    def __post_init__(self) -> None:
        for name in ("quota_gb", "checkpoint_days", "model_days"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")

    @property
    def asks_nothing(self) -> bool:
        """Whether all runs stay as they are."""
        return self.quota_gb is None and self.checkpoint_days is None


@dataclass(frozen=True, slots=True)
class Usage:
    """What was found and done."""

    used: int
    """Bytes that the runs take now; not counted without a quota."""
    freed: int
    """Bytes that were removed."""
    is_over: bool
    """Whether the runs are still larger than the quota."""


def enforce(parent: Path, policy: Retention) -> Usage:
    """Remove what the policy asks for from the runs inside `parent`.

    Raises:
        InputError: the folder cannot be read.
    """
    for remains in parent.glob(".deleted-*"):
        shutil.rmtree(remains, ignore_errors=True)
    freed = models.prune(parent, days=policy.model_days)
    if policy.asks_nothing:
        return Usage(0, freed, False)
    limit = math.inf if policy.quota_gb is None else policy.quota_gb * GB
    used = freed + (size_of(parent) if policy.quota_gb is not None else 0)
    if used - freed > limit:
        kept = size_of(models.folder_of(parent))
        freed += models.prune(parent, most_bytes=max(0.0, kept - (used - freed - limit)))
    finished = list(_finished(parent))
    oldest = state.now() - (policy.checkpoint_days or 0.0) * DAY
    for entry in finished:
        is_old = policy.checkpoint_days is not None and (entry.finished or 0.0) < oldest
        if is_old or used - freed > limit:
            freed += _remove_checkpoints(RunFolder(entry.root))
    for entry in finished:
        if policy.delete_runs and used - freed > limit:
            freed += _delete(RunFolder(entry.root))
    return Usage(max(used - freed, 0), freed, used - freed > limit)


def size_of(folder: Path) -> int:
    """Add up the sizes of all files below a folder, bytes."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # removed in this moment
                continue
    return total


def _finished(parent: Path) -> Iterator[Entry]:
    """Name the runs from which something may be removed, the one that ended first going first."""
    page = Index(parent).search(states=FINISHED, order="oldest", limit=-1)
    for entry in sorted(page.entries, key=lambda entry: entry.finished or 0.0):
        if not entry.is_favourite:
            yield entry


def _remove_checkpoints(folder: RunFolder) -> int:
    freed = 0
    try:
        with state.held(folder, beat=False):
            if state.read_record(folder).state in FINISHED:  # not resumed in this moment
                for path in folder.checkpoints.glob("*.safetensors"):
                    freed += path.stat().st_size
                    path.unlink()
                if freed:
                    folder.append_event("checkpoints_removed", bytes=freed)
    except InputError:  # in use, or gone
        return freed
    return freed


def _delete(folder: RunFolder) -> int:
    size = size_of(folder.root)
    try:
        actions.delete(folder)
    except InputError:
        return 0
    return size
