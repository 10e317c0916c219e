"""Worker processes as a supervisor sees them, and those of this machine.

A supervisor starts a process for a run and learns from it only when and how it ended; what became
of the run is in the run's folder. So the process may as well be one of another machine, see
`ray_cluster`.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from dreamlab.core.run_folder import RunFolder

WORKER_OUTPUT = "worker.txt"


@runtime_checkable
class Process(Protocol):
    """A process that was started for a run."""

    def poll(self) -> int | None:
        """Return its exit status if it has ended; negative: the signal that ended it."""
        ...

    def terminate(self) -> None:
        """Let it write a checkpoint and hand its run back."""
        ...

    def kill(self) -> None:
        """End it at once, and wait until it has ended."""
        ...

    def reason(self) -> str:
        """Say how it ended, once it has."""
        ...


Starter = Callable[[RunFolder, str, Sequence[str]], Process]
"""Starts a command for a run on a device; OSError: it does not start."""


class LocalProcess(subprocess.Popen[bytes]):
    """A process of this machine. Its input is never written to: that it ends tells the process
    that its supervisor has died, see `worker`.
    """

    def __init__(
        self, folder: RunFolder, device: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        with open(folder.root / WORKER_OUTPUT, "ab") as output:
            super().__init__(
                worker_command(folder, device, command),
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

    def kill(self) -> None:
        super().kill()
        self.wait()

    def reason(self) -> str:
        return phrase(self.returncode)


def local_starter(devices: Sequence[str]) -> Starter:
    """Return what starts processes here; those on the CPU share its cores.

    Args:
        devices: of all processes that may run at once.
    """
    on_cpu = devices.count("cpu")

    def start(folder: RunFolder, device: str, command: Sequence[str]) -> LocalProcess:
        environment = dict(os.environ)
        if on_cpu > 1 and "OMP_NUM_THREADS" not in environment:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // on_cpu))
        return LocalProcess(folder, device, command, environment)

    return start


def worker_command(folder: RunFolder, device: str, command: Sequence[str]) -> list[str]:
    """Complete the command of a worker."""
    return [*command, str(folder.root), "--device", device, "--leash"]


def phrase(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"its process broke off with exit status {code}; see {WORKER_OUTPUT}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"its process was ended by {name}"
