"""job.json: the state of a run, for everybody who watches it from outside. No torch here.

    queued -> running -> done | failed | stopped | paused | cancelled
    running -> queued                                      its worker ended before the job did
    queued -> stopped | paused | cancelled                 without running
    failed | stopped | paused | cancelled -> queued        resume, by the queue
    everything but running -> running                      resume or export, by hand

    stopped    the user ended it early; what there was is exported
    paused     the user ended it early; nothing is exported until it goes on
    cancelled  the user gave it up

An export by the queue borrows a run that is done or stopped: it is queued, runs, and is then put
back, see `queue.exports`.

Every change is made by the process that holds the run (`held`). A run whose process has died
without a word still says "running"; `read` reports it as failed, `read_record` as it is written.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, get_args

from dreamlab.core.config import build, to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder, write_json
from dreamlab.jobs import lock
from dreamlab.jobs.lock import BusyError

State = Literal["queued", "running", "paused", "done", "failed", "stopped", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
AT_REST: tuple[State, ...] = ("paused", "failed", "stopped", "cancelled")
"""Ended, and can be resumed."""
NEXT: dict[State, tuple[State, ...]] = {
    "queued": ("running", "stopped", "paused", "cancelled"),
    "running": ("done", "failed", "stopped", "paused", "cancelled", "queued"),
    "done": ("running",),
    "paused": ("running", "queued", "stopped", "cancelled"),
    "failed": ("running", "queued", "cancelled"),
    "stopped": ("running", "queued", "cancelled"),
    "cancelled": ("running", "queued"),
}


@dataclass(frozen=True, slots=True)
class Job:
    """What job.json holds; times are seconds since 1970."""

    state: State = "queued"
    """Where in its life the run is."""
    reason: str = ""
    """Why it failed, was stopped, or is tried again."""
    fix: str = ""
    """What can be done about it."""
    code: int | None = None
    """The exit status of its last failure; 1 stands for a crash."""
    phase: str = ""
    """What it is, or was last, doing."""
    pid: int | None = None
    """The process that runs it."""
    host: str = ""
    """The machine that runs it, or ran it last."""
    device: str = ""
    """The device that it runs on, or ran on last."""
    created: float = 0.0
    """When the run folder was made."""
    started: float | None = None
    """When the run began, the last time it did."""
    finished: float | None = None
    """When it ended, the last time it did."""
    prompt: str = ""
    """What is made; this and the next three repeat config.yaml, for lists of many runs."""
    seed: int = 0
    """Of the run."""
    recipe: str = ""
    """Of the run."""
    quality: str = ""
    """Of the run."""
    is_queued: bool = False
    """Whether supervisors look after it; runs of `dreamlab generate` are their caller's."""
    priority: int = 0
    """Higher ones are begun first, older ones among equals."""
    crashes: int = 0
    """Crashes in a row without a new checkpoint."""
    memory_errors: int = 0
    """How often it ran out of memory."""
    not_before: float = 0.0
    """When it may be tried again."""


@contextmanager
def held(folder: RunFolder, beat: bool = True) -> Iterator[None]:
    """Hold a run: while inside, no other process works on it or changes its job.json.

    Args:
        folder: of the run.
        beat: show that the holder lives; not needed for what takes an instant.

    Raises:
        BusyError: another process holds it, on this machine or on one that shares the folder.
    """
    try:
        owner = read_record(folder) if folder.job.exists() else Job()
    except InputError:
        owner = Job()  # whoever reads it next says what is wrong with it
    elsewhere = owner.state == "running" and owner.host not in ("", host())
    if elsewhere and lock.beats(folder.lock):
        raise BusyError(
            f"{folder.root} is being run by process {owner.pid} on {owner.host}.",
            "wait for it, or stop it first.",
        )
    try:
        with lock.hold(folder.lock, beat):
            yield
    except BusyError:
        by = f" by process {owner.pid}" if owner.pid else ""
        raise BusyError(
            f"{folder.root} is being worked on{by}.", "wait for it, or stop it first."
        ) from None


def host() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def create(folder: RunFolder, job: Job | None = None) -> Job:
    """Write the job.json of a new run."""
    return write(folder, replace(job or Job(), created=now()))


def read(folder: RunFolder) -> Job:
    """Read job.json; a running job without a process comes back as failed.

    Raises:
        InputError: the file is missing or is not one of ours.
    """
    job = read_record(folder)
    if job.state == "running" and not is_alive(folder, job):
        job = read_record(folder)  # it may just have ended in good order
        if job.state == "running" and not is_alive(folder, job):
            reason, fix = "its process was killed.", f"dreamlab resume {folder.root}"
            return replace(job, state="failed", reason=reason, fix=fix)
    return job


def read_record(folder: RunFolder) -> Job:
    """Read job.json as it is written.

    Raises:
        InputError: the file is missing or is not one of ours.
    """
    try:
        content = json.loads(folder.job.read_text(encoding="utf-8"))
        return build(Job, content if isinstance(content, dict) else {"": content}, "job.json")
    except (OSError, ValueError, InputError) as error:
        why = error.message if isinstance(error, InputError) else str(error)
        raise InputError(
            f"{folder.job} cannot be read: {why}", "delete it; the run itself is not lost."
        ) from None


def is_alive(folder: RunFolder, job: Job) -> bool:
    """Whether the process that runs a job exists; what is held here lives, whatever its host."""
    if job.state != "running":
        return False
    is_elsewhere = job.host not in ("", host())
    return lock.is_held(folder.lock) or (is_elsewhere and lock.beats(folder.lock))


def begin(folder: RunFolder, device: str = "", *, is_queued: bool = False) -> Job:
    """Mark the run, which this process holds, as running, whatever ended before.

    Args:
        folder: of the run.
        device: that it runs on.
        is_queued: whether a worker of the queue runs it; if not, the run leaves the queue, and what
            was asked of it before no longer counts.
    """
    # what a process that was killed had half written; only who holds the run writes these
    for remains in (*folder.root.glob(".job.json.*.part*"), *folder.root.glob("*/.*.part*")):
        remains.unlink(missing_ok=True)
    job = read_record(folder) if folder.job.exists() else create(folder)
    if not is_queued:
        folder.control.unlink(missing_ok=True)
        folder.export.unlink(missing_ok=True)
    return move(
        folder,
        job,
        "running",
        pid=os.getpid(),
        host=host(),
        device=device,
        started=now(),
        finished=None,
        code=None,
        is_queued=is_queued,
    )


def enter_phase(folder: RunFolder, phase: str) -> Job:
    """Record what the running job is doing."""
    return write(folder, replace(read_record(folder), phase=phase))


def finish(folder: RunFolder, state: State, reason: str = "", fix: str = "") -> Job:
    """Mark the running job as ended, or as waiting for another process to go on."""
    if state != "queued":  # what was asked of the job is answered
        folder.control.unlink(missing_ok=True)
    job = read_record(folder)
    return move(folder, job, state, reason=reason, fix=fix, pid=None, finished=now())


def move(folder: RunFolder, job: Job, state: State, **changes: object) -> Job:
    """Bring a job, whose run this process holds, into another state; reason and fix are emptied.

    Raises:
        ValueError: this state cannot follow.
    """
    if state != job.state and state not in NEXT[job.state]:
        raise ValueError(f"a run cannot go from {job.state} to {state}")
    fresh = {"reason": "", "fix": ""} | changes
    return write(folder, replace(job, state=state, **fresh))  # type: ignore[arg-type]


def change(folder: RunFolder, **changes: object) -> Job:
    """Change what does not concern the state of a job, whose run this process holds."""
    return write(folder, replace(read_record(folder), **changes))  # type: ignore[arg-type]


def write(folder: RunFolder, job: Job) -> Job:
    """Write the job.json of a run that this process holds."""
    write_json(folder.job, to_plain(job))
    return job


def now() -> float:
    """Return the time, seconds since 1970."""
    return round(time.time(), 3)
