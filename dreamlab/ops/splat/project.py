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

J is taken no farther out than `MARGIN` times the picture's border, where it would grow wild. Its
derivatives are in `dreamlab.ops.splat.project_warp`.

Sources: Zwicker et al. 2001 (EWA splatting); Kerbl et al. 2023 (3D Gaussian splatting); Yu et al.
2024 (Mip-Splatting), section 4.3 (opacity).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.ops.backends import Backend, resolve

LOW_PASS = 0.3
"""D, square pixels."""
NEAR = 0.05
"""Least distance ahead of the camera, world units."""
MARGIN = 1.3
"""Farthest place at which J is taken, from the middle of the picture, in half pictures."""
LEAST_KEPT = 1e-6
"""Least det (C - D I) / det C; the opacity of thinner Gaussians falls no further."""


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
    """Ahead of the camera."""
    shape: Float[Tensor, "batch gaussians"] | None = None
    """beta of generalised exponentials, at least 1; none for Gaussians. See `splat`."""


@dataclass(frozen=True)
class Lens:
    """What projection needs to know of the cameras; see `lens_of`."""

    position: Float[Tensor, "batch 3"]
    """World space."""
    axes: Float[Tensor, "batch 3 3"]
    """V: its rows are right, down and ahead."""
    intrinsics: Float[Tensor, "batch 3"]
    """f in pixels, and the largest |x / z| and |y / z| at which J is taken."""
    height: int
    width: int


def lens_of(cameras: Cameras, height: int, width: int, like: Tensor) -> Lens:
    """Describe cameras whose pictures have these sizes, in the type and place of `like`."""
    turned = cameras.camera_to_world[:, :3, :3].transpose(1, 2).to(like)
    tangent = torch.tan(torch.deg2rad(cameras.fov_y.to(like)) / 2)
    sizes = [height / 2 / tangent, MARGIN * tangent * width / height, MARGIN * tangent]
    return Lens(
        cameras.position.to(like),
        turned * turned.new_tensor([1.0, -1.0, -1.0])[:, None],
        torch.stack(sizes, dim=-1),
        height,
        width,
    )


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
    *,
    backend: Backend = "auto",
) -> Projected:
    """Project Gaussians into all views; see the module docstring.

    Args:
        means: world space.
        quaternions: (w, x, y, z), of any length but zero.
        scales: standard deviations, world units, positive.
        opacities: in [0, 1].
        cameras: views.
        height: of the pictures, pixels; also `width`.
        backend: `warp` (float32) or `reference`; `gsplat`, which only blends, takes `auto`.

    Raises:
        InputError: the tensors do not have the type that the backend needs.

    Gradients: to the Gaussians, from those that are visible; none to the cameras.
    """
    lens = lens_of(cameras, height, width, means)
    if resolve("project", "auto" if backend == "gsplat" else backend, means.device) == "reference":
        from dreamlab.ops.splat import project_reference

        return project_reference.project(means, quaternions, scales, opacities, lens)
    parts = (means, quaternions, scales, opacities)
    if any(part.dtype != torch.float32 for part in parts):
        raise InputError(
            f"project on backend 'warp' needs float32, got {[part.dtype for part in parts]}.",
            "Convert them with .float(), or use backend 'reference'.",
        )
    from dreamlab.ops.splat import project_warp

    return project_warp.project(*parts, lens)
