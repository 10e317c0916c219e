"""Turns a lack of memory into an error with advice."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dreamlab.core.errors import MemoryExhaustedError

SIGNS = ("can't allocate memory", "out of memory")
"""What torch's general errors say when a CPU or a device has no memory left."""


@contextmanager
def advice_on_memory(device: torch.device) -> Iterator[None]:
    """Raise `MemoryExhaustedError` when the code inside runs out of memory."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _advice(device, error) from error
    except RuntimeError as error:
        if not any(sign in str(error) for sign in SIGNS):
            raise
        raise _advice(device, error) from error


def _advice(device: torch.device, error: BaseException) -> MemoryExhaustedError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return MemoryExhaustedError(
        f"{device} has no memory left ({reason}); the last checkpoint is kept.",
        "use a lower quality, fewer views or smaller milestones in the stages, or resume with "
        "prior.attention_slicing=true prior.vae_slicing=true prior.max_rows=1.",
    )
