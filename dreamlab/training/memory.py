"""What becomes of a lack of memory: a rung of the prior's ladder, or an error with advice."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dreamlab.core.errors import MemoryExhaustedError

SIGNS = ("can't allocate memory", "out of memory", "Failed to allocate", "STATUS_ALLOC_FAILED")
"""What general errors of torch, of Warp's kernels and of CUDA's libraries say when a CPU or a
device has no memory left."""


@contextmanager
def advice_on_memory(device: torch.device) -> Iterator[None]:
    """Raise `MemoryExhaustedError` when the code inside runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise _advice(device, error) from error


def memory_in_use() -> float | None:
    """Return the memory that this process holds now, GB: of the GPU if it uses one.

    None where the system does not tell.
    """
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return round(torch.cuda.memory_allocated() / 1e9, 3)
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e9, 3)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell a lack of memory from other errors."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def _advice(device: torch.device, error: BaseException) -> MemoryExhaustedError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return MemoryExhaustedError(
        f"{device} has no memory left ({reason}); the last checkpoint is kept.",
        "use a lower quality, fewer views, smaller milestones in the stages, or a smaller "
        "prior.image_size or prior.model; what the model itself can save has been tried.",
    )
