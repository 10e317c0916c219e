"""Random numbers as a pure function of (seed, purpose, step).

No generator lives across steps, so a resumed run draws exactly what an uninterrupted one would
have drawn and nothing about randomness has to be stored in a checkpoint.
"""

import hashlib

import torch


def derive_seed(seed: int, *keys: str | int) -> int:
    """Hash a run seed and any keys into an independent 63-bit seed."""
    text = "/".join([str(seed), *map(str, keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *keys: str | int) -> torch.Generator:
    """Return a CPU generator seeded by `derive_seed(seed, *keys)`.

    Numbers are always drawn on the CPU and moved, so a run draws the same ones on every device.
    """
    return torch.Generator().manual_seed(derive_seed(seed, *keys))
