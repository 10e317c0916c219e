"""Worker processes as a supervisor sees them.

A supervisor starts a process for a run and learns from it only when and how it ended; what became
of the run is in the run's folder. So the process may be one of this machine, see `local`, or of
another one, see `ray_cluster`.
"""

import signal
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from dreamlab.core.run_folder import RunFolder

WORKER_OUTPUT = "worker.txt"
Ring = Callable[[], object]
"""Wakes up whoever waits for a process."""


@runtime_checkable
class Process(Protocol):
    """A process that was started for a run."""

    def poll(self) -> int | None:
        """Return its exit status if it has ended; negative: the signal that ended it."""
        ...

    def call_when_ended(self, ring: Ring) -> None:
        """Call a function once when `poll` tells that it has ended, in any thread."""
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
