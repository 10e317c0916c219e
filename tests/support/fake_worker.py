"""A worker that does everything a real one does but train: its steps are lines in a file.

Environment: FAKE_STEPS (of a run), FAKE_EVERY (steps between two checkpoints), FAKE_SECONDS (of a
step), FAKE_END (what happens at the first step of an attempt: an exit code of `core.errors`, "kill"
or "crash"), FAKE_HOST (name of this machine), FAKE_STALE (age at which another machine's lock is
nobody's, s).
The trace of a run has a line `pid step` for every step that any process made.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence

from dreamlab.core.errors import DreamlabError, ExitCode
from dreamlab.core.run_folder import RunFolder, write_text
from dreamlab.jobs import lock, retry, state
from dreamlab.jobs.control import listening
from dreamlab.jobs.queue import worker
from dreamlab.training.stop import StopFlag

STEPS = int(os.environ.get("FAKE_STEPS", "20"))
EVERY = int(os.environ.get("FAKE_EVERY", "4"))
SECONDS = float(os.environ.get("FAKE_SECONDS", "0.005"))
END = os.environ.get("FAKE_END", "")
ENDS = {"hand_back": "queued", "pause": "paused", "stop": "stopped", "cancel": "cancelled"}


def carry_out(folder: RunFolder, device: str, stop: StopFlag) -> int:
    checkpoint = folder.checkpoints / "last.safetensors"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    with listening(folder, stop), open(folder.root / "trace.txt", "ab", buffering=0) as trace:
        while step < STEPS and not stop.is_set:
            step += 1
            trace.write(f"{os.getpid()} {step}\n".encode())
            fail_if_told(folder)
            time.sleep(SECONDS)
            if step % EVERY == 0:
                write_text(checkpoint, str(step))
    write_text(checkpoint, str(step))
    if stop.wish is not None:
        state.finish(folder, ENDS[stop.wish], "told to.")
        return int(ExitCode.STOPPED)
    write_text(folder.exports / "model.glb", str(step))
    state.finish(folder, "done")
    return 0


def fail_if_told(folder: RunFolder) -> None:
    if END == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if END == "crash":
        sys.exit("broken")
    if END:
        error = DreamlabError("as told.", "tell it otherwise.", ExitCode(int(END)))
        retry.fail(folder, int(error.code), error.message, error.fix)
        sys.exit(int(error.code))


def main(arguments: Sequence[str]) -> int:
    retry.PAUSE_SECONDS = 0.01
    if "FAKE_HOST" in os.environ:
        state.host = lambda: os.environ["FAKE_HOST"]
    if "FAKE_STALE" in os.environ:
        lock.STALE_SECONDS = float(os.environ["FAKE_STALE"])
        lock.BEAT_SECONDS = lock.STALE_SECONDS / 10
    return worker.main(arguments, carry_out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
