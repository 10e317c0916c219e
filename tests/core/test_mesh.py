"""Claims about the mesh type."""

from dataclasses import replace

import numpy as np
import pytest

from dreamlab.core.mesh import Mesh, joined


@pytest.fixture
def square() -> Mesh:
    vertices = np.array([[0, 0, 1], [2, 0, 1], [2, 3, 1], [0, 3, 1]], dtype=np.float32)
    return Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]))


def test_bounds_are_the_extreme_corners(square):
    low, high = square.bounds
    np.testing.assert_array_equal(low, [0, 0, 1])
    np.testing.assert_array_equal(high, [2, 3, 1])


def test_face_areas_add_up_to_the_area_of_the_surface(square):
    assert square.face_areas.tolist() == [3.0, 3.0]


def test_triangles_list_the_corners_of_each_face_in_order(square):
    np.testing.assert_array_equal(square.triangles[1], square.vertices[[0, 2, 3]])


def test_joined_meshes_keep_what_all_of_them_have(square):
    colors, normals = np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32)
    full = replace(square, colors=colors, normals=normals)
    both = joined([full, replace(full, vertices=square.vertices + 5, normals=None)])
    np.testing.assert_array_equal(both.triangles[2:], square.triangles + 5)
    assert both.colors is not None and both.colors.shape == (8, 3) and both.normals is None
    assert joined([full]) is full and joined([full, full, full]).normals is not None
