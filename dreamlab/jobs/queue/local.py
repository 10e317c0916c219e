"""Worker processes of this machine.

On Linux a command `python -m MODULE ...` is forked from a process that has imported the module, see
`fork_server`. Any other command, and any command elsewhere, gets an interpreter of its own.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.queue.fork_server import ForkedProcess, server_of
from dreamlab.jobs.queue.process import WORKER_OUTPUT, Ring, Starter, phrase, worker_command

CAN_FORK = sys.platform == "linux"
RUN_MODULE = [sys.executable, "-m"]


class LocalProcess(subprocess.Popen[bytes]):
    """A process with an interpreter of its own.

    Its input is never written to: that it ends tells the process that its supervisor has died, see
    `worker`.
    """

    def __init__(self, words: Sequence[str], output: int, environment: Mapping[str, str]) -> None:
        super().__init__(
            words,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone
        )

    def poll(self) -> int | None:
        code = super().poll()
        if code is not None and self.stdin is not None:
            self.stdin.close()
        return code

    def call_when_ended(self, ring: Ring) -> None:
        def wait() -> None:
            self.wait()
            ring()

        threading.Thread(target=wait, daemon=True).start()

    def kill(self) -> None:
        super().kill()
        self.wait()

    def reason(self) -> str:
        return phrase(self.returncode)


def start_here(
    folder: RunFolder, words: Sequence[str], environment: Mapping[str, str]
) -> LocalProcess | ForkedProcess:
    """Start a process for a run; what it writes is added to the run's worker.txt.

    Args:
        folder: of the run.
        words: the command.
        environment: of the process.

    Raises:
        OSError: it does not start.
    """
    with open(folder.root / WORKER_OUTPUT, "ab") as output:
        if CAN_FORK and list(words[:2]) == RUN_MODULE:
            return server_of(words[2]).fork(words[3:], output.fileno(), environment)
        return LocalProcess(words, output.fileno(), environment)


def local_starter(devices: Sequence[str]) -> Starter:
    """Return what starts processes here; those on the CPU share its cores.

    Args:
        devices: of all processes that may run at once.
    """
    on_cpu = devices.count("cpu")

    def start(
        folder: RunFolder, device: str, command: Sequence[str]
    ) -> LocalProcess | ForkedProcess:
        environment = dict(os.environ)
        if on_cpu > 1 and "OMP_NUM_THREADS" not in environment:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // on_cpu))
        return start_here(folder, worker_command(folder, device, command), environment)

    return start
