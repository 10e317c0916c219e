import imageio_ffmpeg
import numpy as np
import pytest

from dreamlab.core.errors import InputError
from dreamlab.export.turntable import write_video


def frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    return [np.full((height, width, 3), 20 * i, np.uint8) for i in range(count)]


def test_the_video_has_all_frames_in_order_and_size(tmp_path):
    write_video(tmp_path / "t.mp4", frames(10), fps=10)
    reader = imageio_ffmpeg.read_frames(tmp_path / "t.mp4")
    meta = next(reader)
    assert meta["size"] == (64, 48) and meta["fps"] == 10 and meta["codec"] == "h264"
    assert "yuv420p" in meta["pix_fmt"]
    brightness = [np.frombuffer(frame, np.uint8).mean() for frame in reader]
    assert len(brightness) == 10
    assert np.allclose(brightness, [20 * i for i in range(10)], atol=4)


def test_only_the_finished_video_appears(tmp_path):
    write_video(tmp_path / "t.mp4", frames(3))
    assert [path.name for path in tmp_path.iterdir()] == ["t.mp4"]


@pytest.mark.parametrize("bad", [[], frames(2, 47), [*frames(1), *frames(1, 50)]])
def test_no_frames_odd_sides_and_mixed_sizes_are_refused(tmp_path, bad):
    with pytest.raises(InputError, match="frames of one size"):
        write_video(tmp_path / "t.mp4", bad)
    assert not list(tmp_path.iterdir())
