"""Splatting in plain torch: every Gaussian at every pixel. Any float type, any derivative.

Formulas and names are those of `dreamlab.ops.splat.splat`.
"""

import torch
from torch import Tensor

from dreamlab.ops.splat.project import Projected
from dreamlab.ops.splat.splat import EARLY_STOP, MAX_ALPHA, MIN_ALPHA


def blend(projected: Projected, features: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Blend; see `dreamlab.ops.splat.splat.splat`."""
    rows = torch.arange(height).to(features) + 0.5
    columns = torch.arange(width).to(features) + 0.5
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([u, v], dim=-1).reshape(-1, 1, 2)
    pictures, alphas = [], []
    for view in range(len(features)):
        order = projected.distance[view].argsort(stable=True)
        order = order[projected.is_visible[view, order]]
        x, y = (pixels - projected.mean[view, order]).unbind(dim=-1)
        a, b, c = projected.conic[view, order].unbind(dim=-1)
        power = -0.5 * (a * x * x + c * y * y) - b * x * y
        alpha = (projected.opacity[view, order] * power.exp()).clamp(max=MAX_ALPHA)
        alpha = alpha.where(alpha >= MIN_ALPHA, 0.0)
        through = torch.cat([torch.ones_like(alpha[:, :1]), (1 - alpha).cumprod(dim=1)], dim=1)
        transmittance = through[:, :-1]
        weight = (alpha * transmittance).where(transmittance >= EARLY_STOP, 0.0)
        pictures.append((weight @ features[view, order]).reshape(height, width, -1))
        alphas.append(weight.sum(dim=1).reshape(height, width, 1))
    return torch.stack(pictures), torch.stack(alphas)
