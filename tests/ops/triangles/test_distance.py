"""Points on surfaces, and distances to them."""

import numpy as np
import pytest
import torch
import trimesh
from closeness import KERNEL_DEVICES

from dreamlab.core.mesh import Mesh
from dreamlab.ops.triangles.distance import (
    NearestFinder,
    distances_to,
    sample_surface,
    signed_distances,
)


def as_mesh(shape):
    return Mesh(shape.vertices.astype(np.float32), shape.faces.astype(np.int64))


def points(count=500, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3))


def test_signed_distance_of_a_ball_is_radius_less_than_that_to_its_middle():
    ball = as_mesh(trimesh.creation.icosphere(subdivisions=5, radius=0.6))
    expected = np.linalg.norm(points(), axis=1) - 0.6
    np.testing.assert_allclose(signed_distances(ball, points()), expected, atol=2e-3)
    np.testing.assert_allclose(distances_to(ball, points()), np.abs(expected), atol=2e-3)


def test_a_hole_and_crossing_parts_hardly_change_the_sign():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.6)
    other = ball.copy()
    other.apply_translation((0.3, 0, 0))
    holed = trimesh.Trimesh(ball.vertices, ball.faces[20:], process=False)
    both = as_mesh(trimesh.util.concatenate([holed, other]))
    first = np.linalg.norm(points(), axis=1) - 0.6
    second = np.linalg.norm(points() - [0.3, 0, 0], axis=1) - 0.6
    union = np.minimum(first, second)
    agree = (signed_distances(both, points()) < 0) == (union < 0)
    assert agree.mean() > 0.98


@pytest.mark.parametrize("device", KERNEL_DEVICES)
def test_nearest_points_lie_on_the_surface_in_line_with_the_middle_of_a_ball(device):
    ball = as_mesh(trimesh.creation.icosphere(subdivisions=4, radius=0.6))
    asked = torch.tensor(points(), dtype=torch.float32).to(device)
    found = NearestFinder(ball, device)(asked)
    corners = torch.tensor(ball.triangles).to(device)[found.face.long()]
    nearest = torch.einsum("nk,nkc->nc", found.weight, corners)
    torch.testing.assert_close((nearest - asked).norm(dim=-1), found.distance, atol=1e-5, rtol=0)
    along = torch.nn.functional.normalize(asked, dim=-1)
    torch.testing.assert_close(nearest, 0.6 * along, atol=0.03, rtol=0)
    torch.testing.assert_close(found.distance, (asked.norm(dim=-1) - 0.6).abs(), atol=3e-3, rtol=0)


def test_points_lie_on_the_surface_in_proportion_to_area():
    box = as_mesh(trimesh.creation.box(extents=(1, 2, 4)))
    drawn = sample_surface(box, 20_000, seed=1)
    assert distances_to(box, drawn).max() < 1e-6
    on_ends = (np.abs(np.abs(drawn[:, 2]) - 2) < 1e-6).mean()
    assert on_ends == pytest.approx(4 / 28, abs=0.01)
