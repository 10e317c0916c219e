"""Projection in plain torch; formulas and names are those of `dreamlab.ops.splat.project`.

Any float type, any derivative.
"""

import torch
from torch import Tensor

from dreamlab.ops.splat.project import (
    LEAST_KEPT,
    LOW_PASS,
    NEAR,
    Lens,
    Projected,
    rotation_matrices,
)


def project(
    means: Tensor, quaternions: Tensor, scales: Tensor, opacities: Tensor, lens: Lens
) -> Projected:
    """Project; see `dreamlab.ops.splat.project.project`."""
    offset = means[None] - lens.position[:, None]
    x, y, z = (offset @ lens.axes.transpose(1, 2)).unbind(dim=-1)
    is_ahead = z > NEAR
    z = z.where(is_ahead, 1.0)
    focal, limit_x, limit_y = lens.intrinsics[:, None].unbind(dim=-1)
    columns, rows = focal * x / z + lens.width / 2, focal * y / z + lens.height / 2
    slope_x = torch.minimum(torch.maximum(x / z, -limit_x), limit_x)
    slope_y = torch.minimum(torch.maximum(y / z, -limit_y), limit_y)
    scale = (focal / z)[..., None]
    right, down, ahead = (lens.axes[:, None, k] for k in range(3))
    to_u = scale * (right - slope_x[..., None] * ahead)
    to_v = scale * (down - slope_y[..., None] * ahead)
    root = rotation_matrices(quaternions) * scales[:, None]
    u, v = (torch.einsum("bni,nij->bnj", axis, root) for axis in (to_u, to_v))
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    before = uu * vv - uv * uv
    uu, vv = uu + LOW_PASS, vv + LOW_PASS
    after = uu * vv - uv * uv
    return Projected(
        mean=torch.stack([columns, rows], dim=-1),
        conic=torch.stack([vv, -uv, uu], dim=-1) / after[..., None],
        opacity=opacities * (before / after).clamp(min=LEAST_KEPT).sqrt(),
        distance=offset.norm(dim=-1),
        is_visible=is_ahead,
    )
