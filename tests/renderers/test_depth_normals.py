"""Claims about normals from depth images."""

import torch
from torch import Tensor

from dreamlab.core.cameras import turntable_cameras
from dreamlab.renderers.depth_normals import depth_normals

CAMERAS = turntable_cameras(3, elevation=25.0, distance=3.0, fov_y=40.0)


def ball(size: int, radius: float = 0.7) -> tuple[Tensor, ...]:
    """Return rays, opacity, unnormalised depth and true normals of an opaque ball."""
    origins, directions = CAMERAS.rays(size, size)
    along = -(origins * directions).sum(-1, keepdim=True)
    miss = (origins + along * directions).square().sum(-1, keepdim=True)
    alpha = (miss < radius**2).float()
    depth = along - (radius**2 - miss).clamp(min=0).sqrt()
    return origins, directions, alpha, alpha * depth, (origins + depth * directions) / radius


def test_normals_of_a_ball_are_right_and_fail_at_most_on_its_rim():
    """The weighted difference is the tangent of the circle through three points."""
    for size in (32, 128):
        *image, truth = ball(size)
        normal = depth_normals(*image)
        assert torch.allclose(normal.norm(dim=-1), torch.ones(3, size, size), atol=1e-4)
        error = (normal - truth).norm(dim=-1)[image[2][..., 0] > 0]
        assert error.median() < 1e-3
        assert (error > 0.1).float().mean() < 6 / size


def test_a_step_in_depth_does_not_bend_the_normals_beside_it():
    origins, directions = CAMERAS.rays(16, 16)
    forward = -CAMERAS.camera_to_world[:, None, None, :3, 2]
    distance = torch.full((3, 16, 16, 1), 2.0)
    distance[:, :, 8:] = 4.0
    distance = distance / (directions * forward).sum(-1, keepdim=True)
    normal = depth_normals(origins, directions, torch.ones_like(distance), distance)
    assert (normal * -forward).sum(-1).min() > 0.99


def test_normals_do_not_depend_on_the_opacity_of_an_even_fog():
    origins, directions, alpha, depth, _ = ball(24)
    opaque = depth_normals(origins, directions, alpha, depth)
    faint = depth_normals(origins, directions, alpha * 0.2, depth * 0.2)
    assert torch.allclose(opaque, faint, atol=1e-4)


def test_gradients_agree_with_finite_differences():
    """Weights are held fixed, so only images without jumps can be compared: a tilted plane."""
    origins, directions = (t.double()[:1] for t in CAMERAS.rays(4, 5))
    forward = -CAMERAS.camera_to_world[:1, None, None, :3, 2].double()
    plane = forward + 0.2 * CAMERAS.camera_to_world[:1, None, None, :3, 0].double()
    depth = (2.5 / (directions * plane).sum(-1, keepdim=True)).requires_grad_()
    alpha = torch.full_like(depth, 0.9, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        depth_normals(origins, directions, alpha, 0.9 * depth)[..., 0].sum(), depth
    )
    assert gradient.abs().max() > 0
    direction = torch.randn(depth.shape, dtype=torch.float64, generator=_seeded()) * 1e-6
    high, low = (
        depth_normals(origins, directions, alpha, 0.9 * (depth + sign * direction))[..., 0].sum()
        for sign in (1, -1)
    )
    assert torch.allclose((high - low) / 2, (gradient * direction).sum(), rtol=0.02)


def test_an_empty_image_has_finite_normals_and_gradients():
    origins, directions = CAMERAS.rays(6, 6)
    alpha = torch.zeros(3, 6, 6, 1, requires_grad=True)
    depth = torch.zeros(3, 6, 6, 1, requires_grad=True)
    normal = depth_normals(origins, directions, alpha, depth)
    (alpha * normal).sum().backward()
    assert normal.isfinite().all()
    assert alpha.grad.isfinite().all()
    assert not depth.grad.any()


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
