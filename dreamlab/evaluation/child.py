"""One prompt made by the real command line, in a process of its own.

So what is measured is what a user gets: start-up, compilation and writing included. The folder of
a prompt holds the run folder, both output streams and `outcome.json`, which is written last: where
it says 0, the prompt is done.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from dreamlab.core.config import build, to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder, write_json
from dreamlab.jobs.machine import peak_rss

CLI = (sys.executable, "-m", "dreamlab")
OUTCOME, STDOUT, STDERR = "outcome.json", "stdout.jsonl", "stderr.txt"
POLL_SECONDS = 0.1
BYTES_PER_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""The system counts memory in bytes there and in kibibytes elsewhere."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the process of a prompt ended."""

    exit_code: int
    """0 is success; see `core.errors.ExitCode`; negative is the signal that ended it."""
    seconds: float
    """Wall time from start to end."""
    peak_rss_gb: float
    """Most memory that the process held, without its children."""
    run: str
    """Name of the run folder; empty if there is none."""
    error: str
    """Why it failed; empty if it did not."""


def read_outcome(folder: Path) -> Outcome | None:
    """Read how a prompt ended; None if it never did, or the record is damaged."""
    try:
        content = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
        return build(Outcome, content if isinstance(content, dict) else {}, OUTCOME)
    except (OSError, ValueError, InputError):
        return None


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Record how a prompt ended; its folder is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / OUTCOME, to_plain(outcome))


def run_folder(folder: Path, outcome: Outcome) -> RunFolder:
    """Return the run folder of a prompt that is done.

    Raises:
        InputError: it is gone.
    """
    return RunFolder.open(folder / outcome.run)


def generate(
    folder: Path,
    prompt: str,
    arguments: Sequence[str],
    *,
    time_limit: float,
    command: Sequence[str] = CLI,
    threads: int | None = None,
    stop: Event | None = None,
) -> Outcome:
    """Run `dreamlab generate` for a prompt and record its outcome.

    Args:
        folder: of the prompt; what an earlier attempt left there is removed.
        prompt: what to make.
        arguments: overrides and options, as on the command line.
        time_limit: seconds after which the process is ended.
        command: that starts the command line.
        threads: that the process computes with; as many as it likes if not given.
        stop: ends the process when it is set by another thread; then nothing is recorded.

    Raises:
        KeyboardInterrupt: it was stopped.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    line = [*command, "generate", prompt, *arguments]
    line += ["--output", str(folder), "--json", "--quiet"]
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    with (folder / STDOUT).open("wb") as out, (folder / STDERR).open("wb") as err:
        begin = time.monotonic()
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment
        )
        exit_code, peak, in_time = _wait(process, time_limit, stop or Event())
        seconds = time.monotonic() - begin
    run = next((path.parent.name for path in folder.glob("*/config.yaml")), "")
    error = "" if exit_code == 0 else _reason(folder, exit_code)
    if not in_time:
        error = f"it was ended after the time limit of {time_limit:g} s"
    outcome = Outcome(exit_code, round(seconds, 2), round(peak / 1e9, 3), run, error)
    write_outcome(folder, outcome)
    return outcome


def _wait(
    process: subprocess.Popen[bytes], time_limit: float, stop: Event
) -> tuple[int, int, bool]:
    """Wait for a process; return exit code, peak memory in bytes, and whether it ended in time.

    The process never outlives this call.
    """
    deadline = time.monotonic() + time_limit
    peak, in_time = 0, True
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid != 0:
                # tells Popen that the process has been waited for
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode, peak or usage.ru_maxrss * BYTES_PER_RSS_UNIT, in_time
            peak = peak_rss(process.pid) or peak
            if in_time and time.monotonic() > deadline:
                in_time = False
                process.kill()
            if stop.wait(POLL_SECONDS):
                raise KeyboardInterrupt
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()


def _reason(folder: Path, exit_code: int) -> str:
    """Return what the process said was wrong: its last error event, else its last line."""
    for line in reversed((folder / STDOUT).read_text(errors="replace").splitlines()):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("kind") == "error":
            return str(event.get("message", ""))
    lines = (folder / STDERR).read_text(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:500] if said else f"exit code {exit_code}"
