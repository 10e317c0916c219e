"""Which devices jobs can run on, found without loading torch into this process."""

import subprocess
import sys

from dreamlab.core.errors import MissingError

COUNT = "import torch; print(torch.cuda.device_count())"
SECONDS = 300.0


def find_devices() -> list[str]:
    """List the graphics cards as cuda:0, cuda:1, …; the CPU if there is none.

    Raises:
        MissingError: torch does not load.
    """
    command = [sys.executable, "-c", COUNT]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
        cards = int(ended.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        raise MissingError(f"torch does not load: {error}.", "see `dreamlab doctor`.") from None
    return [f"cuda:{card}" for card in range(cards)] or ["cpu"]


def slots(devices: list[str], workers: int | None) -> list[str]:
    """Name the device of each of so many workers, in turn; None: one a device."""
    return [devices[i % len(devices)] for i in range(workers or len(devices))]
