"""export.json: an export that is asked of a run which has ended. No torch here.

    {"overrides": ["export.<key>=<value>", ...], "state": "done", ..., "attempts": 0}

A run with this file is queued like any other one, and its worker exports it instead of training it:

    done | stopped -> queued -> running -> done | stopped

Whatever happens, the run comes back to the state that it had: an export that fails leaves its
message as the run's reason, one that is stopped or cancelled leaves nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from dreamlab.core.config import build
from dreamlab.core.errors import InputError, MissingError
from dreamlab.core.run_folder import RunFolder, write_json
from dreamlab.export.files.blender import check_formats
from dreamlab.export.settings import BLENDER_FORMATS
from dreamlab.jobs import state
from dreamlab.jobs.state import Job, State

FROM: tuple[State, ...] = ("done", "stopped")
"""States in which a run can be exported again."""
FAILED = "the export failed"
"""How the reason of a run begins whose last export has failed."""
MAX_ATTEMPTS = 2
"""Of processes that end without a word; fewer than `retry.MAX_CRASHES`, so a run never fails."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What export.json holds."""

    overrides: tuple[str, ...] = ()
    """`export.<key>=<value>`."""
    state: State = "done"
    """That the run comes back to; likewise the next three."""
    reason: str = ""
    fix: str = ""
    finished: float | None = None
    attempts: int = 0
    """Processes that have begun it."""


def read(folder: RunFolder) -> Wanted | None:
    """Read what is asked of a run; None if nothing is, or the file is not one of ours."""
    try:
        content = json.loads(folder.export.read_text(encoding="utf-8"))
        return build(Wanted, content if isinstance(content, dict) else {"": content}, "export.json")
    except (OSError, ValueError, InputError):
        return None


def ask(folder: RunFolder, overrides: Sequence[str]) -> Job:
    """Queue an export of a run; its settings are not checked here, see `jobs.export.plan`.

    Raises:
        InputError: the run has not ended with something to export, or a process works on it.
    """
    with state.held(folder, beat=False):
        job = state.read_record(folder)
        if job.state not in FROM:
            raise InputError(
                f"{folder.root} is {job.state}; what is exported is done, or stopped and kept.",
                "wait for its end, or resume it.",
            )
        came_from = (job.state, job.reason, job.fix, job.finished)
        write(folder, Wanted(tuple(overrides), *came_from))
        folder.control.unlink(missing_ok=True)
        fresh = {"is_queued": True, "crashes": 0, "memory_errors": 0, "not_before": 0.0}
        queued = replace(job, state="queued", reason="", fix="", code=None, **fresh)
        return state.write(folder, queued)


def write(folder: RunFolder, wanted: Wanted) -> None:
    """Write the export.json of a run that this process holds."""
    write_json(folder.export, asdict(wanted))


def end(folder: RunFolder, wanted: Wanted, reason: str = "", fix: str = "") -> Job:
    """Bring a run, which this process holds, back to where it was; `reason`: why nothing came."""
    folder.control.unlink(missing_ok=True)
    said = (reason, fix) if reason else (wanted.reason, wanted.fix)
    changes = {"reason": said[0], "fix": said[1], "pid": None, "finished": wanted.finished}
    job = replace(state.read_record(folder), state=wanted.state, **changes)
    state.write(folder, job)
    folder.export.unlink(missing_ok=True)
    return job


def why_not_blender() -> MissingError | None:
    """Say why formats that Blender writes cannot be had here; None if they can."""
    try:
        check_formats(BLENDER_FORMATS)
    except MissingError as error:
        return error
    return None
