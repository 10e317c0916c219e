"""Whether somebody carries out the queue of a folder, and starting a supervisor where nobody does.

`dreamlab work` holds `.work.lock` in its folder; the kernel frees it when it dies. Where several
work on one folder, one of them holds it.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dreamlab.jobs import lock
from dreamlab.jobs.lock import BusyError

LOCK = ".work.lock"
LOG = ".work.txt"
"""What supervisors that were started here have written."""
WORK = (sys.executable, "-m", "dreamlab", "work", "--quiet")
LOOK_SECONDS = 2.0
PAUSE_SECONDS = 5.0
"""Before another supervisor is started, growing with every one that has died."""
MAX_PAUSE_SECONDS = 300.0
GRACE_SECONDS = 90.0
"""That a supervisor gets to end: its workers write checkpoints."""


@contextmanager
def present(parent: Path) -> Iterator[None]:
    """Say, while inside, that this process carries out the queue of a folder."""
    with ExitStack() as held:
        with suppress(BusyError):  # another one says so
            held.enter_context(lock.hold(parent / LOCK, beat=False))
        yield


def is_present(parent: Path) -> bool:
    """Whether a process of this machine carries out the queue of a folder."""
    return lock.is_held(parent / LOCK)


class Keeper:
    """Sees to it that a supervisor works on a folder, while this process lives.

    A supervisor that it starts is a session of its own: when this process is killed, it and the
    runs go on.
    """

    def __init__(
        self, parent: Path, *, workers: int | None = None, command: Sequence[str] = WORK
    ) -> None:
        """Start nothing yet.

        Args:
            parent: the folder of runs.
            workers: runs at a time; none: one a device.
            command: that starts a supervisor.
        """
        self.parent = parent
        self.command = [*command, "--output", str(parent)]
        if workers is not None:
            self.command += ["--workers", str(workers)]
        self.process: subprocess.Popen[bytes] | None = None
        self._deaths, self._not_before = 0, 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        """Begin to see to it."""
        self._thread.start()

    def look(self) -> None:
        """Start a supervisor if there is none, unless the last one has died a moment ago."""
        if self.process is not None and self.process.poll() is not None:
            self.process = None
            self._deaths += 1
            pause = min(PAUSE_SECONDS * 2 ** (self._deaths - 1), MAX_PAUSE_SECONDS)
            self._not_before = time.monotonic() + pause
        is_due = time.monotonic() >= self._not_before
        if self.process is None and is_due and not is_present(self.parent):
            with open(self.parent / LOG, "ab") as output:
                self.process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )

    def end(self) -> None:
        """Let the supervisor that was started end in good order; another one is left alone."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _keep(self) -> None:
        while True:
            self.look()
            if self._ended.wait(LOOK_SECONDS):
                return
