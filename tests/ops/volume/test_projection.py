import pytest
import torch
from closeness import KERNEL_DEVICES

from dreamlab.core.cameras import turntable_cameras
from dreamlab.ops.triangles.isosurface import extract
from dreamlab.ops.triangles.raycast import silhouette
from dreamlab.ops.volume.projection import project_maximum


def grid(resolution: int, half_extent: float) -> torch.Tensor:
    axis = torch.linspace(-half_extent, half_extent, resolution)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def cameras(elevation: float = 25.0):
    return turntable_cameras(3, elevation=elevation, distance=4.0, fov_y=50.0)


@pytest.mark.parametrize("device", KERNEL_DEVICES)
def test_the_maximum_of_a_cone_of_density_is_at_the_closest_approach(device):
    points = grid(65, 1.2)
    values = (1 - points.norm(dim=-1)).clamp(min=0).to(device)
    m = project_maximum(values, 1.2, cameras().to(device), 24, 24)[..., 0].cpu()
    origins, directions = cameras().rays(24, 24)
    closest = torch.linalg.cross(origins, directions).norm(dim=-1)
    assert torch.allclose(m, (1 - closest).clamp(min=0), atol=0.03)


def test_axes_are_not_mixed_up():
    points = grid(33, 1.0)
    values = torch.zeros(33, 33, 33)
    blob = (points - torch.tensor([0.3, -0.5, 0.6])).norm(dim=-1) < 0.15
    values[blob] = 1.0
    origins, directions = cameras().rays(40, 40)
    m = project_maximum(values, 1.0, cameras(), 40, 40)[..., 0]
    to_blob = torch.tensor([0.3, -0.5, 0.6]) - origins
    closest = torch.linalg.cross(to_blob, directions).norm(dim=-1)
    assert (closest[m > 0.99] < 0.2).all()
    assert (m[closest < 0.08] > 0.99).all()


def test_rays_that_miss_the_cube_are_zero():
    values = torch.ones(8, 8, 8)
    m = project_maximum(values, 0.1, cameras(), 32, 32)
    assert m[:, 0, 0].eq(0).all() and m[:, 16, 16].gt(0.999).all()


def test_a_camera_inside_the_cube_sees_only_what_is_ahead():
    values = torch.zeros(21, 21, 21)
    values[:10] = 1.0  # x < 0
    inside = turntable_cameras(2, elevation=0.0, distance=0.3, fov_y=20.0)
    m = project_maximum(values, 1.0, inside, 3, 3)[:, 1, 1, 0]
    assert m[0] == 1 and m[1] == 1  # both look along their view axis through x < 0
    away = turntable_cameras(1, elevation=0.0, distance=0.3, fov_y=20.0)
    away.camera_to_world[:, :3, 0] *= -1
    away.camera_to_world[:, :3, 2] *= -1
    assert project_maximum(values, 1.0, away, 3, 3)[0, 1, 1, 0] == 0


def test_thresholding_the_maximum_gives_the_outline_of_the_surface():
    points = grid(48, 1.0)
    wave = 0.1 * torch.sin(7 * points).sum(dim=-1)
    values = torch.sigmoid(-(points.norm(dim=-1) - 0.6 + wave) * 20)
    m = project_maximum(values, 1.0, cameras(), 64, 64)
    for threshold in (0.2, 0.5, 0.8):
        outline = silhouette(extract(values, threshold, 1.0), cameras(), 64, 64)
        assert (outline == (m > threshold)).float().mean() > 0.995
