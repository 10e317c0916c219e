"""Which device a job runs on."""

import torch

from dreamlab.core.errors import InputError, MissingError


def pick_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is a card, else the CPU.

    Raises:
        InputError: it is not the name of a device that dreamlab runs on.
        MissingError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"{name!r} is not a device.", "allowed: auto, cpu, cuda, cuda:1, …")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingError(
            f"there is no device {name} (CUDA cards found: {torch.cuda.device_count()}).",
            "use --device auto, or see `dreamlab doctor`.",
        )
    return device
