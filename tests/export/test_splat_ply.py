"""Claims about files of Gaussians: what is in them, and that it comes back."""

import math

import numpy as np
import pytest
import torch
import trimesh

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Splats
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.splat_ply import read_splats, write_splats
from dreamlab.ops.splat.project import project
from dreamlab.ops.splat.splat import splat

ASIS = Placement(1.0, (0.0, 0.0, 0.0))


def some(count=40):
    draw = torch.Generator().manual_seed(3)
    return Splats(
        means=torch.rand(count, 3, generator=draw) - 0.5,
        quaternions=torch.randn(count, 4, generator=draw),
        scales=0.02 + 0.1 * torch.rand(count, 3, generator=draw),
        opacities=torch.rand(count, generator=draw),
        colors=torch.rand(count, 3, generator=draw),
    )


def picture(splats):
    geometry = (splats.means, splats.quaternions, splats.scales, splats.opacities)
    cameras = turntable_cameras(3, distance=3.0, fov_y=40.0)
    return splat(project(*geometry, cameras, 48, 48), splats.colors.expand(3, -1, -1), 48, 48)


def test_gaussians_that_were_written_and_read_give_the_same_pictures(tmp_path):
    splats, path = some(), tmp_path / "splats.ply"
    write_splats(path, splats, ASIS)
    for before, after in zip(picture(splats), picture(read_splats(path)), strict=True):
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)


def test_the_properties_mean_what_other_viewers_take_them_for(tmp_path):
    path = tmp_path / "splats.ply"
    one = Splats(
        means=torch.tensor([[0.1, 0.2, 0.3]]),
        quaternions=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        scales=torch.tensor([[0.1, 0.2, 0.3]]),
        opacities=torch.tensor([0.75]),
        colors=torch.tensor([[0.5, 0.0, 1.0]]),
    )
    write_splats(path, one, Placement(2.0, (0.0, 0.0, 0.1)))
    row = trimesh.load(path, process=False).metadata["_ply_raw"]["vertex"]["data"][0]
    assert row["x"] == pytest.approx(-0.4) and row["y"] == pytest.approx(-0.4)
    assert row["z"] == pytest.approx(0.2)
    assert row["opacity"] == pytest.approx(math.log(3), rel=1e-5)
    assert row["scale_2"] == pytest.approx(math.log(0.6))
    basis = 0.28209479
    colors = [0.5 + basis * row[f"f_dc_{i}"] for i in range(3)]
    assert colors == pytest.approx([0.5, 0.0, 1.0], abs=1e-6)
    w, x, y, z = (float(row[f"rot_{i}"]) for i in range(4))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    # the axis of a Gaussian that was the world's z, up, points to -y
    np.testing.assert_allclose(turn @ [0, 0, 1], [0, -1, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"solid x", "no Gaussians"),
        (b"ply\nformat ascii 1.0\nend_header\n", "no Gaussians"),
        (
            b"ply\nformat binary_little_endian 1.0\nelement vertex 2\nproperty float x\n"
            b"end_header\n1234",
            "cut short",
        ),
        (
            b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\n"
            b"end_header\n1234",
            "'y'",
        ),
    ],
)
def test_other_files_are_refused_with_a_reason(tmp_path, content, word):
    path = tmp_path / "x.ply"
    path.write_bytes(content)
    with pytest.raises(InputError, match=word):
        read_splats(path)
    with pytest.raises(InputError, match="cannot read"):
        read_splats(tmp_path / "absent.ply")
