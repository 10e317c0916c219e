"""Rasterization in plain torch: all pixels of all bounding boxes, then the nearest.

Formulas and names are those of `dreamlab.ops.triangles.rasterize`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK = 1 << 22
"""Pairs of a triangle and a pixel that are looked at together."""


def rasterize(
    pos: Float[Tensor, "batch vertices 4"],
    tri: Int[Tensor, "triangles 3"],
    resolution: tuple[int, int],
) -> Float[Tensor, "batch height width 4"]:
    """Rasterize; see `dreamlab.ops.triangles.rasterize.rasterize`."""
    views = [_rasterize_view(view, tri.long(), resolution) for view in pos]
    return torch.stack(views) if views else pos.new_zeros(0, *resolution, 4)


def _rasterize_view(pos: Tensor, tri: Tensor, resolution: tuple[int, int]) -> Tensor:
    height, width = resolution
    nearest, seen = _nearest(pos.detach(), tri, resolution)
    pixels = torch.nonzero(torch.isfinite(nearest))[:, 0]
    triangle = seen[pixels]
    weights = _weights(pos, tri[triangle], pixels, resolution)
    values = torch.stack(
        [weights[:, 0], weights[:, 1], nearest[pixels], (triangle + 1).to(pos.dtype)], dim=-1
    )
    rast = pos.new_zeros(height * width, 4).index_put((pixels,), values)
    return rast.reshape(height, width, 4)


@torch.no_grad()
def _nearest(pos: Tensor, tri: Tensor, resolution: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return z / w (infinite where there is nothing) and triangle of every pixel [H * W]."""
    height, width = resolution
    nearest = pos.new_full((height * width,), torch.inf)
    seen = torch.full((height * width,), len(tri), dtype=torch.int64, device=pos.device)
    low, high = _bounds(pos[tri], resolution)
    spans = (high - low + 1).clamp(min=0)
    ends = spans.prod(dim=1).cumsum(0)
    first = 0
    while first < len(tri):
        done = ends[first - 1] if first else 0
        last = max(int(torch.searchsorted(ends, done + _BLOCK, right=True)), first + 1)
        block = torch.arange(first, last, device=pos.device)
        triangle = block.repeat_interleave(spans[block].prod(dim=1))
        place = torch.arange(len(triangle), device=pos.device) + done
        place = place - (ends[triangle] - spans[triangle].prod(dim=1))
        column = low[triangle, 0] + place % spans[triangle, 0]
        pixel = (low[triangle, 1] + place // spans[triangle, 0]) * width + column
        weights = _weights(pos, tri[triangle], pixel, resolution)
        z, w = ((weights * pos[tri[triangle], axis]).sum(dim=1) for axis in (2, 3))
        inside = (weights >= 0).all(dim=1) & (w > 0) & (z.abs() <= w)
        pixel, triangle, depth = pixel[inside], triangle[inside], (z / w)[inside]
        before = nearest.clone()
        nearest.scatter_reduce_(0, pixel, depth, "amin")
        seen = torch.where(nearest < before, len(tri), seen)
        wins = depth == nearest[pixel]
        seen.scatter_reduce_(0, pixel[wins], triangle[wins], "amin")
        first = last
    return nearest, seen


def _bounds(corners: Tensor, resolution: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return first and last (column, row) of pixel centres in the boxes around triangles."""
    height, width = resolution
    size = torch.tensor([width, height], dtype=corners.dtype, device=corners.device)
    w = corners[..., 3]
    is_whole = (w > 1e-6).all(dim=1, keepdim=True)
    pixel = (corners[..., :2] / w[..., None].clamp(min=1e-6) + 1) / 2 * size - 0.5
    pixel = pixel.clamp(-2, float(max(width, height) + 2))
    low = torch.where(is_whole, pixel.amin(dim=1) - 1e-3, 0).ceil().long().clamp(min=0)
    high = torch.where(is_whole, pixel.amax(dim=1) + 1e-3, size - 1).floor().long()
    return low, high.clamp(max=(size - 1).long())


def _weights(pos: Tensor, corners: Tensor, pixel: Tensor, resolution: tuple[int, int]) -> Tensor:
    """Return barycentric weights [n, 3] at pixels; NaN for triangles seen edge on."""
    height, width = resolution
    x = (2 * (pixel % width) + 1).to(pos.dtype) / width - 1
    y = (2 * torch.div(pixel, width, rounding_mode="floor") + 1).to(pos.dtype) / height - 1
    v = pos[corners]
    p = v[..., :2] - torch.stack([x, y], dim=-1)[:, None] * v[..., 3:]
    e = torch.stack([_edge(p, corners, i, (i + 1) % 3) for i in (1, 2, 0)], dim=-1)
    return e / e.sum(dim=-1, keepdim=True)


def _edge(p: Tensor, corners: Tensor, i: int, j: int) -> Tensor:
    """Return p_i x p_j, evaluated from the corner of lower number."""
    forward = p[:, i, 0] * p[:, j, 1] - p[:, i, 1] * p[:, j, 0]
    backward = p[:, j, 0] * p[:, i, 1] - p[:, j, 1] * p[:, i, 0]
    return torch.where(corners[:, i] < corners[:, j], forward, -backward)
