"""What becomes of a queued job whose attempt failed: tried again, or given up.

A *crash* is an end without a word: the process was killed, or an error that is no `DreamlabError`.
It goes on from its last checkpoint after a pause of `PAUSE_SECONDS · 2^(c − 1)`, c being the number
of crashes in a row without a new checkpoint; after `MAX_CRASHES` of them the job has failed. So
a job that gets on is never given up, and one that cannot is given up soon.

Too little memory is tried once more, since another program may have held it. Bad input, a missing
model and a run that diverged would end in the same way again: they are not retried.
"""

from dataclasses import replace

from dreamlab.core.errors import ExitCode
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.jobs.state import Job

MAX_CRASHES = 3
"""Crashes in a row, without a new checkpoint, after which a job has failed."""
MAX_MEMORY_ERRORS = 2
PAUSE_SECONDS = 2.0
"""Before the second attempt."""


def fail(folder: RunFolder, code: int, reason: str, fix: str) -> Job:
    """Record an error of the running job; one of the queue is tried again if that may help."""
    job, now = state.read_record(folder), state.now()
    if job.is_queued:
        return state.write(folder, after_error(job, now, code, reason, fix))
    ended = {"reason": reason, "fix": fix, "code": code, "pid": None, "finished": now}
    return state.move(folder, job, "failed", **ended)


def crash(folder: RunFolder, reason: str) -> Job:
    """Record that the process of the job broke off; one of the queue is tried again."""
    job = state.read_record(folder)
    if job.is_queued:
        got_on = job.state == "running" and _got_on(folder, job)
        return state.write(folder, after_crash(job, state.now(), reason, got_on))
    return fail(folder, 1, reason, f"dreamlab resume {folder.root}")


def _got_on(folder: RunFolder, job: Job) -> bool:
    """Whether the last attempt wrote a checkpoint."""
    try:
        written = (folder.checkpoints / "last.safetensors").stat().st_mtime
    except OSError:
        return False
    return job.started is not None and written >= job.started


def after_crash(job: Job, now: float, reason: str, got_on: bool) -> Job:
    """Return the job after a crash.

    Args:
        job: as it was when it ran.
        now: seconds since 1970.
        reason: what is known about the crash.
        got_on: whether the attempt wrote a checkpoint.
    """
    crashes = 1 if got_on else job.crashes + 1
    ended = replace(job, crashes=crashes, pid=None, finished=now, code=1)
    if crashes >= MAX_CRASHES:
        return replace(
            ended,
            state="failed",
            reason=f"{reason} ({crashes} times without a new checkpoint)",
            fix="see log.txt and worker.txt in its folder; resuming it begins to count again.",
        )
    pause = PAUSE_SECONDS * 2 ** (crashes - 1)
    fix = "it is tried again from its last checkpoint."
    return replace(ended, state="queued", not_before=now + pause, reason=reason, fix=fix)


def after_error(job: Job, now: float, code: int, reason: str, fix: str) -> Job:
    """Return the job after a `DreamlabError` with its code, message and fix."""
    memory_errors = job.memory_errors + (code == ExitCode.OUT_OF_MEMORY)
    again = code == ExitCode.OUT_OF_MEMORY and memory_errors < MAX_MEMORY_ERRORS
    return replace(
        job,
        state="queued" if again else "failed",
        memory_errors=memory_errors,
        not_before=now + PAUSE_SECONDS if again else 0.0,
        pid=None,
        finished=now,
        code=code,
        reason=reason,
        fix=fix,
    )
