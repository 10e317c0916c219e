"""A worker: the process that carries out one queued run, so that its memory returns to the system.

    python -m dreamlab.jobs.queue.worker RUN --device cuda:0 --leash

It takes the run's lock before anything slow is imported, and leaves the run to others (exit status
`NOT_MINE`) if it is held, or no longer queued. With `--leash` it ends when its standard input is
closed, as it is when the supervisor that started it dies. Then, and on SIGTERM, it writes
a checkpoint and hands the run back to the queue.
"""

import argparse
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from dreamlab.core.errors import DreamlabError, ExitCode
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.jobs.lock import BusyError
from dreamlab.jobs.queue import exports
from dreamlab.training.stop import SIGNALS, StopFlag

Work = Callable[[RunFolder, str, StopFlag], int]
NOT_MINE = 75
"""Exit status: another process has the run, or it need not be run (EX_TEMPFAIL)."""
BROKEN = 1
"""Exit status: an error that is no `DreamlabError`; it is in the run's log and record."""


def carry_out_run(folder: RunFolder, device: str, stop: StopFlag) -> int:
    """Do what is asked of a run, which this process holds, and return the exit status."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the command line, before torch
    wanted = exports.read(folder)
    try:
        if wanted is not None:
            from dreamlab.jobs.export import carry_out_export

            carry_out_export(folder, wanted, device=device, stop=stop)
            return int(ExitCode.STOPPED if stop.is_set else ExitCode.DONE)
        from dreamlab.jobs.generate import carry_out

        outcome = carry_out(folder, device=device, stop=stop)
    except DreamlabError as error:
        return int(error.code)
    except Exception:  # is in the run's log, with its traceback
        return BROKEN
    return int(ExitCode.STOPPED if outcome.was_stopped else ExitCode.DONE)


def main(arguments: Sequence[str] | None = None, work: Work = carry_out_run) -> int:
    """Carry out a run and return the exit status.

    Args:
        arguments: of the command line.
        work: what is done with the run; told the run folder, the device and when to end.
    """
    parser = argparse.ArgumentParser(prog="dreamlab.jobs.queue.worker")
    parser.add_argument("run", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--leash", action="store_true")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    stop = StopFlag()
    hand_back_on_signals(stop)
    if options.leash:
        threading.Thread(target=hand_back_at_end_of_input, args=(stop,), daemon=True).start()
    folder = RunFolder(options.run)
    try:
        with state.held(folder):
            if not may_begin(folder):
                return NOT_MINE
            state.begin(folder, options.device, is_queued=True)
            return work(folder, options.device, stop)
    except BusyError:
        return NOT_MINE
    except DreamlabError as error:  # the folder is gone, or its record is damaged
        sys.stderr.write(f"{error}\n")
        return int(error.code)


def may_begin(folder: RunFolder) -> bool:
    """Whether a run, which this process holds, is still waiting for a worker."""
    job = state.read_record(folder)
    return job.state == "queued" and job.is_queued and job.not_before <= state.now()


def hand_back_on_signals(stop: StopFlag) -> None:
    """End in good order on the first SIGTERM or SIGINT, at once on the second."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set("hand_back")
        signal.signal(number, signal.SIG_DFL)

    for number in SIGNALS:
        signal.signal(number, on_signal)


def hand_back_at_end_of_input(stop: StopFlag) -> None:
    """Wait until nobody can write to standard input any more, then end in good order."""
    while os.read(0, 1024):
        pass
    stop.set("hand_back")


if __name__ == "__main__":
    sys.exit(main())
