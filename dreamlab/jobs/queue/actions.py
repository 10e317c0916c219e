"""What the faces of dreamlab do with runs: submit, stop, pause, resume, cancel, copy, delete.

Each function takes a run folder, acts at once or asks the process that runs it (control.json), and
returns what it found. Importing this loads no torch; `rerun` does when it is called.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dreamlab.core.config import load_yaml
from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder, write_text
from dreamlab.jobs import state
from dreamlab.jobs.control import Request, write_request
from dreamlab.jobs.lock import BusyError
from dreamlab.jobs.queue import exports
from dreamlab.jobs.state import Job, State

if TYPE_CHECKING:
    from dreamlab.jobs.recipes import RunConfig

ENDS: dict[Request, State] = {"stop": "stopped", "pause": "paused", "cancel": "cancelled"}
REQUEST_TRIES = 100
"""A worker can end between the look at its lock and the request, and another one begin."""


def submit(config: "RunConfig", parent: Path, *, priority: int = 0) -> RunFolder:
    """Queue a new run; `config` is what `load_recipe` returned.

    Raises:
        InputError: `parent` cannot be written.
    """
    from dreamlab.jobs.generate import prepare

    return prepare(config, parent, is_queued=True, priority=priority)


def request(folder: RunFolder, wish: Request) -> Job:
    """Stop (and keep and export), pause or cancel a run; where it is being exported, only that.

    One that nobody works on changes at once; a worker ends after its step, with a checkpoint, so
    the record that is returned may still say "running".

    Raises:
        InputError: the run is in a state in which that means nothing.
    """
    for _ in range(REQUEST_TRIES):
        job = state.read(folder)
        if job.state == "running":
            write_request(folder, wish)
            if state.is_alive(folder, job):
                return job
        try:
            with state.held(folder, beat=False):
                return answer(folder, wish)
        except BusyError:
            continue  # begun in this moment, or looked at for an instant
    raise BusyError(f"{folder.root} does not come to rest.", "try again.")


def answer(folder: RunFolder, wish: Request) -> Job:
    """Do what was asked of a run that nobody but this process holds.

    Raises:
        InputError: the run is in a state in which that means nothing.
    """
    job, end = state.read_record(folder), ENDS[wish]
    wanted = exports.read(folder)
    if wanted is not None and job.state in ("queued", "running"):
        return exports.end(folder, wanted)  # the run itself had ended before
    if job.state == end:
        return job
    allowed = (end in state.NEXT[job.state]) and not (wish == "stop" and job.state == "paused")
    if not allowed:
        raise InputError(
            f"{folder.root} is {job.state}; it cannot be {end}.",
            f"to see what it has made: `dreamlab export {folder.root}`.",
        )
    folder.control.unlink(missing_ok=True)
    reason, fix = f"{end} by the user.", f"dreamlab jobs resume {folder.root}"
    return state.move(folder, job, end, reason=reason, fix=fix, pid=None, finished=state.now())


def resume(folder: RunFolder) -> Job:
    """Queue a run that has ended before it was complete; it goes on from its last checkpoint.

    Raises:
        InputError: it is complete, or another process works on it.
    """
    with state.held(folder, beat=False):
        job = state.read_record(folder)
        if job.state == "queued" and job.is_queued:
            return job
        if job.state == "done":
            raise InputError(
                f"{folder.root} is complete.",
                f"for another one like it: `dreamlab jobs duplicate {folder.root}`.",
            )
        folder.control.unlink(missing_ok=True)
        folder.export.unlink(missing_ok=True)
        if job.state == "running":  # its process is gone
            job = state.move(folder, job, "failed")
        fresh = {"is_queued": True, "crashes": 0, "memory_errors": 0, "not_before": 0.0}
        return state.move(folder, job, "queued", code=None, **fresh)


def set_priority(folder: RunFolder, priority: int) -> Job:
    """Change when a queued run has its turn: higher ones are begun first.

    Raises:
        InputError: it is running.
    """
    with state.held(folder, beat=False):
        return state.change(folder, priority=priority)


def set_favourite(folder: RunFolder, favourite: bool) -> None:
    """Mark a run as one to keep, or not; allowed at any time."""
    if favourite:
        folder.favourite.touch()
    else:
        folder.favourite.unlink(missing_ok=True)


def duplicate(folder: RunFolder, *, priority: int | None = None) -> RunFolder:
    """Queue a new run with the same settings, and so the same result on the same machine.

    Raises:
        InputError: the settings of the run cannot be read, or no folder can be made beside it.
    """
    config = load_yaml(folder.config)
    values = {"prompt": "", "seed": 0, "recipe": "", "quality": ""}
    about = {name: config.get(name, default) for name, default in values.items()}
    before = state.read_record(folder) if folder.job.exists() else Job()
    job = Job(
        is_queued=True,
        priority=before.priority if priority is None else priority,
        prompt=str(about["prompt"]),
        seed=int(about["seed"]),
        recipe=str(about["recipe"]),
        quality=str(about["quality"]),
    )
    copy = RunFolder.create(folder.root.parent, job.prompt, job.seed)
    write_text(copy.config, folder.config.read_text(encoding="utf-8"))
    state.create(copy, job)
    return copy


def rerun(
    folder: RunFolder,
    overrides: Sequence[str] = (),
    *,
    prompt: str | None = None,
    negative_prompt: str | None = None,
    seed: int | None = None,
    priority: int = 0,
) -> RunFolder:
    """Queue a new run with the settings of another one, changed.

    Args:
        folder: of the run that is repeated.
        overrides: `key=value` with dotted keys.
        prompt: what to make instead.
        negative_prompt: what it should not be.
        seed: of every random number.
        priority: of the new run.

    Raises:
        InputError: an unknown key, or a value that is refused.
    """
    from dreamlab.jobs.recipes import load_run_config

    config = load_run_config(
        folder.config, overrides, prompt=prompt, negative_prompt=negative_prompt, seed=seed
    )
    return submit(config, folder.root.parent, priority=priority)


def delete(folder: RunFolder) -> None:
    """Remove a run with all its files.

    Raises:
        InputError: a process works on it; cancel it first.
    """
    with state.held(folder, beat=False):
        # hidden in one step, so that nobody sees a run with half of its files
        hidden = folder.root.with_name(f".deleted-{folder.root.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.root.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
