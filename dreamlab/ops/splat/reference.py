"""Splatting in plain torch: tile by tile, every Gaussian that reaches it at every pixel of it.

Formulas and names are those of `dreamlab.ops.splat.splat`. Any float type, any derivative. A
Gaussian reaches a tile if its box does, which is where its alpha may reach 1/255.
"""

import torch
from torch import Tensor

from dreamlab.ops.splat.project import Projected
from dreamlab.ops.splat.splat import EARLY_STOP, MAX_ALPHA, MIN_ALPHA, SQUARE_RANGE

TILE = 16
"""Side of a tile, pixels."""


def blend(projected: Projected, features: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Blend; see `dreamlab.ops.splat.splat.splat`."""
    pictures = []
    for view in range(len(features)):
        order = projected.distance[view].detach().argsort(stable=True)
        order = order[projected.is_visible[view, order]]
        low, high = _boxes(projected, view, order)
        rows = []
        for top in range(0, height, TILE):
            row = []
            for left in range(0, width, TILE):
                bottom, right = min(top + TILE, height), min(left + TILE, width)
                reaches = (low[:, 0] <= right) & (high[:, 0] >= left)
                reaches &= (low[:, 1] <= bottom) & (high[:, 1] >= top)
                corner = (top, bottom, left, right)
                row.append(_blend_tile(projected, features, view, order[reaches], corner))
            rows.append(torch.cat(row, dim=1))
        pictures.append(torch.cat(rows, dim=0))
    result = torch.stack(pictures)
    return result[..., :-1], result[..., -1:]


@torch.no_grad()
def _boxes(projected: Projected, view: int, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corners of the boxes of Gaussians; empty for those that are too faint."""
    mean = projected.mean[view, order]
    a, b, c = projected.conic[view, order].unbind(dim=-1)
    opacity = projected.opacity[view, order]
    square = 2 * (opacity / MIN_ALPHA).log()
    if projected.shape is not None:
        square = square.clamp(min=0) ** (2 / projected.shape[view, order])
    reach = square / (a * c - b * b)
    half = (reach[:, None] * torch.stack([c, a], dim=-1)).sqrt() + 0.01
    half = half.where((opacity >= MIN_ALPHA)[:, None], -torch.inf)
    return mean - half, mean + half


def _blend_tile(
    projected: Projected,
    features: Tensor,
    view: int,
    order: Tensor,
    corner: tuple[int, int, int, int],
) -> Tensor:
    """Return features and alpha of the pixels of a tile."""
    top, bottom, left, right = corner
    rows = torch.arange(top, bottom).to(features) + 0.5
    columns = torch.arange(left, right).to(features) + 0.5
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([u, v], dim=-1).reshape(-1, 1, 2)
    x, y = (pixels - projected.mean[view, order]).unbind(dim=-1)
    a, b, c = projected.conic[view, order].unbind(dim=-1)
    power = a * x * x + c * y * y + 2 * b * x * y
    if projected.shape is not None:
        power = power.clamp(*SQUARE_RANGE) ** (projected.shape[view, order] / 2)
    alpha = (projected.opacity[view, order] * (-0.5 * power).exp()).clamp(max=MAX_ALPHA)
    alpha = alpha.where(alpha >= MIN_ALPHA, 0.0)
    through = torch.cat([torch.ones_like(alpha[:, :1]), (1 - alpha).cumprod(dim=1)], dim=1)
    transmittance = through[:, :-1]
    weight = (alpha * transmittance).where(transmittance >= EARLY_STOP, 0.0)
    seen = torch.cat([weight @ features[view, order], weight.sum(dim=1, keepdim=True)], dim=1)
    return seen.reshape(bottom - top, right - left, -1)
