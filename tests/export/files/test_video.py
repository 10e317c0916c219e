import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from dreamlab.core.errors import InputError
from dreamlab.export.files.video import write_video


def frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    return [np.full((height, width, 3), 20 * i, np.uint8) for i in range(count)]


def decode(path: Path) -> tuple[str, bytes]:
    """Return what ffmpeg says about a video, and its frames as raw RGB."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    result = subprocess.run(command, capture_output=True, check=True)
    return result.stderr.decode(), result.stdout


def test_the_video_has_all_frames_in_order_and_size(tmp_path):
    write_video(tmp_path / "t.mp4", frames(10), fps=10)
    words, raw = decode(tmp_path / "t.mp4")
    stream = next(line for line in words.splitlines() if "Video: h264" in line)
    assert "yuv420p" in stream and "64x48" in stream and "10 fps" in stream
    brightness = np.frombuffer(raw, np.uint8).reshape(-1, 48, 64, 3).mean(axis=(1, 2, 3))
    assert np.allclose(brightness, [20 * i for i in range(10)], atol=4)


def test_only_the_finished_video_appears(tmp_path):
    write_video(tmp_path / "t.mp4", frames(3))
    assert [path.name for path in tmp_path.iterdir()] == ["t.mp4"]


@pytest.mark.parametrize("bad", [[], frames(2, 47), [*frames(1), *frames(1, 50)]])
def test_no_frames_odd_sides_and_mixed_sizes_are_refused(tmp_path, bad):
    with pytest.raises(InputError, match="frames of one size"):
        write_video(tmp_path / "t.mp4", bad)
    assert not list(tmp_path.iterdir())
