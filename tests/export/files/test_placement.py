import numpy as np
import pytest

from dreamlab.core.errors import InputError
from dreamlab.core.frames import ROTATION, to_world_axes
from dreamlab.core.mesh import Mesh
from dreamlab.export.files.placement import Placement


def box() -> Mesh:
    corners = np.array([[x, y, z] for x in (0.1, 0.5) for y in (-1, 1) for z in (0.5, 2)])
    return Mesh(
        corners.astype(np.float32), np.array([[0, 1, 2]]), normals=np.eye(3)[[0, 1, 2] * 2 + [0, 1]]
    )


def test_front_faces_plus_z_and_up_is_plus_y_in_files_that_importers_turn():
    front, up = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    assert (ROTATION["y up"] @ front).tolist() == [0, 0, 1]
    assert (ROTATION["y up"] @ up).tolist() == [0, 1, 0]


def test_front_faces_minus_y_and_up_is_plus_z_in_files_that_are_taken_as_they_are():
    front, up = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    assert (ROTATION["z up"] @ front).tolist() == [0, -1, 0]
    assert (ROTATION["z up"] @ up).tolist() == [0, 0, 1]


def test_both_conventions_agree_once_blender_has_turned_the_first():
    x, y, z = ROTATION["y up"]
    assert np.array_equal(np.stack([x, -z, y]), ROTATION["z up"])


@pytest.mark.parametrize("frame", ["y up", "z up"])
def test_axes_are_rotated_not_mirrored(frame):
    assert np.linalg.det(ROTATION[frame]) == pytest.approx(1)


@pytest.mark.parametrize(("frame", "up"), [("y up", 1), ("z up", 2)])
def test_the_model_stands_on_the_ground_centred_and_as_tall_as_asked(frame, up):
    placed = Placement.on_ground(box(), 1.8).apply(box(), frame)
    low, high = placed.bounds
    assert low[up] == pytest.approx(0, abs=1e-6) and high[up] == pytest.approx(1.8)
    sideways = [axis for axis in range(3) if axis != up]
    assert np.allclose((low + high)[sideways], 0, atol=1e-6)


@pytest.mark.parametrize("frame", ["y up", "z up"])
def test_undo_is_the_inverse(frame):
    placement = Placement.on_ground(box(), 0.7)
    back = placement.undo(placement.apply(box(), frame), frame)
    assert np.allclose(back.vertices, box().vertices, atol=1e-6)
    assert back.normals is not None and np.allclose(back.normals, box().normals)


def test_turning_to_world_axes_keeps_size():
    placement = Placement.on_ground(box(), 1.0)
    turned = to_world_axes(placement.apply(box(), "y up"), "y up")
    extent = np.ptp(box().vertices, axis=0)
    assert np.allclose(np.ptp(turned.vertices, axis=0), extent / extent[2], atol=1e-6)


def test_a_flat_model_and_a_height_of_zero_are_refused():
    flat = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32), np.array([[0, 1, 2]]))
    with pytest.raises(InputError, match="flat"):
        Placement.on_ground(flat, 1.0)
    with pytest.raises(InputError, match="height"):
        Placement.on_ground(box(), 0.0)
