"""Models that users have uploaded: where they lie, and which may be removed. No torch here.

A model is needed as long as a run that could still begin or go on names it in its settings. The
others go, the one that was used last long ago first: those older than some days, and more while all
models together are too large. One that has just come is left alone, its run may be on the way.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.jobs.queue.index import Index
from dreamlab.jobs.state import State

FOLDER = ".models"
"""Beside the runs; hidden, so it is not taken for one."""
UNFINISHED: tuple[State, ...] = ("queued", "running", "paused", "failed", "stopped")
FRESH_SECONDS = 3600.0
"""Age below which a model is kept whatever happens."""
DAY = 86400.0


def folder_of(runs: Path) -> Path:
    """Return where the models of a folder of runs lie."""
    return runs / FOLDER


def prune(
    runs: Path, *, days: int | float | None = None, most_bytes: int | float = math.inf
) -> int:
    """Remove models that no unfinished run needs; return the bytes that were freed.

    Args:
        runs: the folder of runs.
        days: age, since a run was last made of it, above which a model goes; None: any age stays.
        most_bytes: that all models together may take.

    Raises:
        InputError: the folder of runs cannot be read.
    """
    found = sorted(folder_of(runs).glob("*.glb"), key=_used)
    if not found:
        return 0
    needed, now, freed = _needed(runs, found), state.now(), 0
    total = sum(_size(path) for path in found)
    for path in found:
        age = now - _used(path)
        is_old = days is not None and age > days * DAY
        if path in needed or age < FRESH_SECONDS or not (is_old or total - freed > most_bytes):
            continue
        size = _size(path)
        with suppress(OSError):
            path.unlink()
            freed += size
    return freed


def _needed(runs: Path, models: Sequence[Path]) -> set[Path]:
    """Return the models that unfinished runs name."""
    needed: set[Path] = set()
    for entry in Index(runs).search(states=UNFINISHED, limit=-1).entries:
        try:
            text = RunFolder(entry.root).config.read_text(encoding="utf-8")
        except OSError:
            continue
        needed |= {path for path in models if path.name in text}
    return needed


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
