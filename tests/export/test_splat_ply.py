"""Claims about files of Gaussians: what is in them, and that it comes back."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.errors import InputError
from dreamlab.core.harmonics import bases_above_zero
from dreamlab.core.protocols import Splats
from dreamlab.core.splat_file import holds_splats, read_splats
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.splat_ply import write_splats
from dreamlab.ops.splat.project import project
from dreamlab.ops.splat.splat import splat

ASIS = Placement(1.0, (0.0, 0.0, 0.0))


def some(count=40, degree=0):
    bases = bases_above_zero(degree)
    draw = torch.Generator().manual_seed(3)
    return Splats(
        means=torch.rand(count, 3, generator=draw) - 0.5,
        quaternions=torch.randn(count, 4, generator=draw),
        scales=0.02 + 0.1 * torch.rand(count, 3, generator=draw),
        opacities=torch.rand(count, generator=draw),
        colors=torch.rand(count, 3, generator=draw),
        harmonics=0.2 * torch.randn(count, bases, 3, generator=draw) if degree else None,
    )


def picture(splats):
    geometry = (splats.means, splats.quaternions, splats.scales, splats.opacities)
    cameras = turntable_cameras(3, distance=3.0, fov_y=40.0)
    colors = splats.colors_from(cameras.position)
    return splat(project(*geometry, cameras, 48, 48), colors, 48, 48)


@pytest.mark.parametrize("degree", range(4))
def test_gaussians_that_were_written_and_read_give_the_same_pictures(tmp_path, degree):
    splats, path = some(degree=degree), tmp_path / "splats.ply"
    write_splats(path, splats, ASIS)
    for before, after in zip(picture(splats), picture(read_splats(path)), strict=True):
        difference = (after - before).abs() / (1 + before.abs())
        # rounding moves the rim of a Gaussian, which is cut off at 1 / 255
        assert difference.max() < 4 / 255 and (difference > 1e-4).float().mean() < 1e-3


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


def test_shapes_of_generalised_exponentials_come_back(tmp_path):
    shapes = torch.linspace(1, 8, 40)
    write_splats(tmp_path / "x.ply", replace(some(), shapes=shapes), ASIS)
    torch.testing.assert_close(read_splats(tmp_path / "x.ply").shapes, shapes)
    write_splats(tmp_path / "x.ply", some(), ASIS)
    assert read_splats(tmp_path / "x.ply").shapes is None


def test_higher_harmonics_stand_by_channel_and_are_of_the_file_s_axes(tmp_path):
    """Each channel's colour, by the formula that viewers use, from a direction in the file."""
    splats, path = some(5, degree=1), tmp_path / "splats.ply"
    write_splats(path, splats, ASIS)
    table = trimesh.load(path, process=False).metadata["_ply_raw"]["vertex"]["data"]
    camera = torch.tensor([[0.5, -2.0, 1.0]])
    seen = splats.colors_from(camera)[0]
    place = np.array([2.0, -1.0, 0.5])  # (X, Y, Z) = (-y, -z, x)
    for row, expected in zip(table, seen, strict=True):
        x, y, z = np.array([row["x"], row["y"], row["z"]]) - place
        length = math.sqrt(x * x + y * y + z * z)
        for channel in range(3):
            base = 0.28209479 * row[f"f_dc_{channel}"] + 0.5
            a, b, c = (row[f"f_rest_{3 * channel + k}"] for k in range(3))
            value = base + 0.48860251 * (-y * a + z * b - x * c) / length
            assert min(max(value, 0), 1) == pytest.approx(expected[channel].item(), abs=1e-5)


def test_numbers_of_other_types_and_properties_of_other_names_are_read_too(tmp_path):
    """As programs write them that keep places in doubles, or colours of points beside all else."""
    write_splats(tmp_path / "x.ply", some(degree=1), ASIS)
    table = trimesh.load(tmp_path / "x.ply", process=False).metadata["_ply_raw"]["vertex"]["data"]
    kinds = {"x": "double", "opacity": "float64", "y": "float32", "red": "uchar"}
    codes = {"double": "<f8", "float64": "<f8", "uchar": "u1"}
    names = [*table.dtype.names[:3], "red", *table.dtype.names[3:]]
    types = [kinds.get(name, "float") for name in names]
    fields = [(n, codes.get(t, "<f4")) for n, t in zip(names, types, strict=True)]
    rows = np.zeros(len(table), fields)
    for name in table.dtype.names:
        rows[name] = table[name]
    lines = ["ply", "format binary_little_endian 1.0", "comment by hand", "element vertex 40"]
    lines += [f"property {kind} {name}" for kind, name in zip(types, names, strict=True)]
    content = "\n".join([*lines, "end_header", ""]).encode() + rows.tobytes()
    (tmp_path / "other.ply").write_bytes(content)
    assert holds_splats(tmp_path / "other.ply")
    mine, other = read_splats(tmp_path / "x.ply"), read_splats(tmp_path / "other.ply")
    for name in ("means", "quaternions", "scales", "opacities", "colors", "harmonics"):
        assert torch.equal(getattr(mine, name), getattr(other, name)), name


def test_files_of_gaussians_are_told_from_others(tmp_path):
    write_splats(tmp_path / "splats.ply", some(), ASIS)
    trimesh.creation.box().export(tmp_path / "box.ply")
    trimesh.PointCloud(np.eye(3)).export(tmp_path / "points.ply")
    found = {path.stem: holds_splats(path) for path in tmp_path.glob("*.ply")}
    assert found == {"splats": True, "box": False, "points": False}


def test_a_number_of_harmonics_that_fits_no_degree_is_refused(tmp_path):
    write_splats(tmp_path / "x.ply", some(2, degree=1), ASIS)
    content = (tmp_path / "x.ply").read_bytes().replace(b"property float f_rest_8\n", b"")
    (tmp_path / "x.ply").write_bytes(content)
    with pytest.raises(InputError, match="8 properties f_rest"):
        read_splats(tmp_path / "x.ply")


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
