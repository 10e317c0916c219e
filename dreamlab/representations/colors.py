"""Colours of one representation, learned by another."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import ColorAt
from dreamlab.ops.triangles.distance import sample_surface

STEPS = 250
"""Optimisation steps."""
POINTS = 4096
"""Points a step, of a pool ten times as large."""


def fit_colors(
    albedo: Callable[[Tensor], Tensor],
    parameters: list[nn.Parameter],
    mesh: Mesh,
    color_at: ColorAt,
    *,
    spread: float,
    seed: int = 0,
) -> None:
    """Move parameters until `albedo` is `color_at` at the surface of a mesh.

    Args:
        albedo: colours to fit, a function of points and of `parameters`.
        parameters: changed in place; they keep no gradient.
        mesh: where the colours matter.
        color_at: what they shall be.
        spread: points lie this far off the surface (standard deviation), world units.
        seed: of the points.
    """
    device = parameters[0].device
    pool = torch.from_numpy(sample_surface(mesh, 10 * POINTS, seed).astype(np.float32))
    random = torch.Generator().manual_seed(seed)
    pool = (pool + spread * torch.randn(pool.shape, generator=random)).to(device)
    target = color_at(pool)
    optimizer = torch.optim.Adam(parameters, lr=1e-2, betas=(0.9, 0.99), eps=1e-15)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, 2 * (1 - step / STEPS))
        rows = torch.randint(len(pool), (POINTS,), generator=random).to(device)
        loss = (albedo(pool[rows]) - target[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
