"""Videos out of frames, through the ffmpeg that the imageio-ffmpeg package brings."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from dreamlab.core.errors import InputError, MissingError
from dreamlab.core.run_folder import atomic_path

QUALITY = 8
"""Of H.264, 0 to 10."""


def write_video(
    path: Path, frames: Iterable[UInt8[ndarray, "height width 3"]], *, fps: int = 24
) -> None:
    """Write an H.264 mp4 that every browser plays, atomically.

    Args:
        path: ends with .mp4.
        frames: sRGB bytes, all of one size with even sides (the colour format needs them).
        fps: frames a second.

    Raises:
        InputError: no frame, or sides that are odd or differ.
        MissingError: there is no ffmpeg for this machine.
    """
    import imageio_ffmpeg

    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise MissingError(
            "no ffmpeg was found to write videos with.", "install ffmpeg and put it on the PATH."
        ) from None
    pictures = list(frames)
    sizes = {picture.shape[:2] for picture in pictures}
    if len(sizes) != 1 or any(side % 2 for side in next(iter(sizes))):
        raise InputError(
            f"a video needs frames of one size with even sides, got {sorted(sizes)}.",
            "render all frames at one even resolution.",
        )
    height, width = sizes.pop()
    with atomic_path(path) as temporary:
        writer = imageio_ffmpeg.write_frames(
            temporary,
            (width, height),
            fps=fps,
            codec="libx264",
            pix_fmt_out="yuv420p",
            quality=QUALITY,
            macro_block_size=2,
            ffmpeg_log_level="error",
        )
        writer.send(None)
        try:
            for picture in pictures:
                writer.send(np.ascontiguousarray(picture))
        finally:
            writer.close()
