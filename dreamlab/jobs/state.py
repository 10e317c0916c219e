"""job.json: the state of a run, for everybody who watches it from outside. No torch here.

    queued -> running -> done | failed | stopped;   failed, stopped -> running again (resume)

A run whose process has died without a word still says "running"; `read` reports it as failed.
"""

import json
import os
import time
from dataclasses import dataclass, replace
from typing import Literal

from dreamlab.core.config import build, to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder, write_json

State = Literal["queued", "running", "done", "failed", "stopped"]
NEXT: dict[State, tuple[State, ...]] = {
    "queued": ("running", "stopped"),
    "running": ("done", "failed", "stopped"),
    "done": ("running",),
    "failed": ("running",),
    "stopped": ("running",),
}


@dataclass(frozen=True, slots=True)
class Job:
    """What job.json holds; times are seconds since 1970."""

    state: State = "queued"
    """Where in its life the run is."""
    reason: str = ""
    """Why it failed or was stopped."""
    fix: str = ""
    """What can be done about it."""
    phase: str = ""
    """What it is, or was last, doing."""
    pid: int | None = None
    """The process that runs it."""
    created: float = 0.0
    """When the run folder was made."""
    started: float | None = None
    """When the run began, the last time it did."""
    finished: float | None = None
    """When it ended."""

    @property
    def is_alive(self) -> bool:
        """Whether the process that runs it exists."""
        return self.state == "running" and self.pid is not None and _process_exists(self.pid)


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def create(folder: RunFolder) -> Job:
    """Write the job.json of a new run."""
    return _write(folder, Job(created=_now()))


def read(folder: RunFolder) -> Job:
    """Read job.json; a running job without a process comes back as failed.

    Raises:
        InputError: the file is missing or is not one of ours.
    """
    try:
        content = json.loads(folder.job.read_text(encoding="utf-8"))
        job = build(Job, content if isinstance(content, dict) else {"": content}, "job.json")
    except (OSError, ValueError, InputError) as error:
        why = error.message if isinstance(error, InputError) else str(error)
        raise InputError(
            f"{folder.job} cannot be read: {why}", "delete it; the run itself is not lost."
        ) from None
    if job.state == "running" and not job.is_alive:
        return replace(job, state="failed", reason="its process was killed.", fix="resume it.")
    return job


def begin(folder: RunFolder) -> Job:
    """Mark the run as running in this process, whatever ended before.

    Raises:
        InputError: it is running in another process.
    """
    job = read(folder) if folder.job.exists() else create(folder)
    if job.is_alive and job.pid != os.getpid():
        raise InputError(
            f"{folder.root} is being run by process {job.pid}.", "wait for it, or stop it first."
        )
    return _move(folder, job, "running", pid=os.getpid(), started=_now(), finished=None)


def enter_phase(folder: RunFolder, phase: str) -> Job:
    """Record what the running job is doing."""
    return _write(folder, replace(read(folder), phase=phase))


def finish(folder: RunFolder, state: State, reason: str = "", fix: str = "") -> Job:
    """Mark the running job as done, failed or stopped."""
    return _move(folder, read(folder), state, reason=reason, fix=fix, pid=None, finished=_now())


def _move(folder: RunFolder, job: Job, state: State, **changes: object) -> Job:
    if state != job.state and state not in NEXT[job.state]:
        raise ValueError(f"a run cannot go from {job.state} to {state}")
    fresh = {"reason": "", "fix": ""} | changes
    return _write(folder, replace(job, state=state, **fresh))  # type: ignore[arg-type]


def _write(folder: RunFolder, job: Job) -> Job:
    write_json(folder.job, to_plain(job))
    return job


def _now() -> float:
    return round(time.time(), 3)
