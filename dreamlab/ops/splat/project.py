"""Gaussians from the world to the picture.

A Gaussian with mean m, rotation R (unit quaternion q) and standard deviations s along its own axes
has the covariance S = R diag(s^2) R^T. A camera that sees points at (x, y, z), x right, y down and
z ahead, projects it by the local affine approximation

    u = f x / z + W / 2,   v = f y / z + H / 2,   C = J V S V^T J^T + D I,

with J the Jacobian of (u, v), V the rotation from world to camera, f the focal length in pixels and
D = 0.3 a low-pass filter, without which a Gaussian thinner than a pixel is missed. The filter also
makes it larger, so its opacity falls by sqrt(det(C - D I) / det C), which keeps its sum.

Glossary: `conic` (a, b, c), the inverse of C as a x^2 + 2 b x y + c y^2; `near` least z that is
drawn. Pixel (0, 0) is the top left one, its centre is at (0.5, 0.5).

Sources: Zwicker et al. 2001 (EWA splatting); Kerbl et al. 2023 (3D Gaussian splatting); Yu et al.
2024 (Mip-Splatting), section 4.3 (opacity).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from dreamlab.core.cameras import Cameras

LOW_PASS = 0.3
"""D, square pixels."""
NEAR = 0.05
"""Least distance ahead of the camera, world units."""
MARGIN = 1.3
"""J is evaluated no farther out than this times the picture's border, where it grows wild."""


@dataclass(frozen=True)
class Projected:
    """Gaussians in pixels, for every view; differentiable but for `is_visible`."""

    mean: Float[Tensor, "batch gaussians 2"]
    """Column and row."""
    conic: Float[Tensor, "batch gaussians 3"]
    """(a, b, c), 1 / square pixels."""
    opacity: Float[Tensor, "batch gaussians"]
    """After the filter, in [0, 1]."""
    distance: Float[Tensor, "batch gaussians"]
    """From the camera to the mean, world units."""
    is_visible: Bool[Tensor, "batch gaussians"]
    """Ahead of the camera and not degenerate."""


def rotation_matrices(quaternions: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """Return rotations of quaternions (w, x, y, z) of any length but zero."""
    w, x, y, z = normalize(quaternions, dim=-1).unbind(dim=-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def project(
    means: Float[Tensor, "gaussians 3"],
    quaternions: Float[Tensor, "gaussians 4"],
    scales: Float[Tensor, "gaussians 3"],
    opacities: Float[Tensor, " gaussians"],
    cameras: Cameras,
    height: int,
    width: int,
) -> Projected:
    """Project Gaussians into all views; see the module docstring.

    Args:
        means: world space.
        quaternions: (w, x, y, z), of any length but zero.
        scales: standard deviations, world units, positive.
        opacities: in [0, 1].
        cameras: views.
        height: of the pictures, pixels; also `width`.

    Gradients: to all four tensors.
    """
    to_camera = cameras.camera_to_world[:, :3, :3].transpose(1, 2).to(means)
    to_camera = to_camera * to_camera.new_tensor([1.0, -1.0, -1.0])[:, None]
    offset = means[None] - cameras.position.to(means)[:, None]
    x, y, z = (offset @ to_camera.transpose(1, 2)).unbind(dim=-1)
    is_ahead = z > NEAR
    z = z.where(is_ahead, 1.0)
    tangent = torch.tan(torch.deg2rad(cameras.fov_y.to(means)) / 2)[:, None]
    focal = height / 2 / tangent
    mean = torch.stack([focal * x / z + width / 2, focal * y / z + height / 2], dim=-1)
    # the columns of J V, with directions held near the picture
    limit_x, limit_y = MARGIN * tangent * width / height, MARGIN * tangent
    slope_x = torch.minimum(torch.maximum(x / z, -limit_x), limit_x)
    slope_y = torch.minimum(torch.maximum(y / z, -limit_y), limit_y)
    scale = (focal / z)[..., None]
    right, down, ahead = (to_camera[:, None, k] for k in range(3))
    to_u = scale * (right - slope_x[..., None] * ahead)
    to_v = scale * (down - slope_y[..., None] * ahead)
    root = rotation_matrices(quaternions) * scales[:, None]
    u, v = (torch.einsum("bni,nij->bnj", axis, root) for axis in (to_u, to_v))
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    before = uu * vv - uv * uv
    uu, vv = uu + LOW_PASS, vv + LOW_PASS
    after = uu * vv - uv * uv
    conic = torch.stack([vv, -uv, uu], dim=-1) / after[..., None]
    kept = (before / after).clamp(min=1e-6).sqrt()
    return Projected(mean, conic, opacities * kept, offset.norm(dim=-1), is_ahead)
