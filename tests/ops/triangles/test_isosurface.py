"""Claims about surfaces extracted from sampled fields."""

import math

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.ops.triangles.isosurface import extract


def nodes(resolution: int, half_extent: float) -> Tensor:
    axis = torch.linspace(-half_extent, half_extent, resolution)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def as_trimesh(mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def test_ball_has_its_radius_volume_and_orientation():
    values = 7 - 10 * nodes(48, 1.3).norm(dim=-1)
    solid = as_trimesh(extract(values, 1.0, 1.3))
    assert np.allclose(np.linalg.norm(solid.vertices, axis=1), 0.6, atol=2e-3)
    assert solid.is_watertight
    assert solid.volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=0.01)
    outward = (solid.face_normals * solid.triangles_center).sum(axis=1)
    assert (outward > 0).all()


def test_axes_are_x_y_z():
    center = torch.tensor([0.3, -0.2, 0.1])
    mesh = extract(0.2 - (nodes(40, 1.0) - center).norm(dim=-1), 0.0)
    assert np.allclose(mesh.vertices.mean(axis=0), center, atol=5e-3)


def test_object_that_reaches_the_border_is_capped_there():
    values = 1 - (nodes(24, 0.5) - torch.tensor([0.5, 0.0, 0.0])).norm(dim=-1) / 0.3
    solid = as_trimesh(extract(values, 0.0, 0.5))
    assert solid.is_watertight
    assert solid.volume == pytest.approx(2 / 3 * math.pi * 0.3**3, rel=0.05)
    assert solid.bounds[1][0] == pytest.approx(0.5)


def test_full_grid_becomes_the_cube():
    solid = as_trimesh(extract(torch.full((5, 5, 5), 3.0), 1.0, 2.0))
    assert solid.is_watertight
    assert solid.volume == pytest.approx(64, rel=1e-3)


def test_nodes_exactly_at_the_threshold_leave_the_surface_closed():
    values = torch.zeros(9, 9, 9)
    values[3:6, 3:6, 3:6] = 1
    values[4, 4, 6] = values[3, 3, 2] = 0.5
    solid = as_trimesh(extract(values, 0.5))
    assert solid.is_watertight
    assert solid.volume > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(4, 4, 4), "largest is 0"),
        (torch.full((4, 4, 4), math.nan), "not finite"),
        (torch.ones(1, 1, 1), "at least 2 nodes"),
    ],
)
def test_a_grid_without_a_surface_is_refused_with_a_fix(values, message):
    with pytest.raises(InputError, match=message) as caught:
        extract(values, 0.5)
    assert caught.value.fix
