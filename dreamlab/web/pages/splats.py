"""Gaussians as the viewer wants them: it looks at the origin, and models stand on it."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from gradio.processing_utils import save_file_to_cache

HEAD_END = b"end_header\n"
AXES = (b"x", b"y", b"z")


def keep_centred(path: Path, cache: str) -> str:
    """Keep a copy of a `splats.ply` with its middle at the origin; return where it lies."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(centred(path.read_bytes()))
        return save_file_to_cache(copy, cache)


def centred(content: bytes) -> bytes:
    """Move the Gaussians of a binary PLY, all of whose properties are floats."""
    head, end, body = content.partition(HEAD_END)
    names = re.findall(rb"property float (\S+)", head)
    rows = np.frombuffer(body, "<f4").reshape(-1, len(names)).copy()
    columns = [names.index(axis) for axis in AXES]
    means = rows[:, columns]
    rows[:, columns] = means - (means.min(axis=0) + means.max(axis=0)) / 2
    return head + end + rows.tobytes()
