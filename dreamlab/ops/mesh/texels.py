"""Which triangle each texel of a texture belongs to.

Glossary: a texel is addressed by its row (0 at the top) and column; its centre is at
((column + 0.5) / size, 1 - (row + 0.5) / size) in UV, whose (0, 0) is the bottom left corner; the
signed distance of a point to a triangle's edge is positive inside, in texels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

BORDER = 1.0
"""Texels this close outside a triangle take the colour of its nearest point (about): bilinear
sampling reads them too."""
INSIDE = 0.05
"""A texel centre this far inside two triangles, in texels, counts as overlap."""
CHUNK = 1 << 21
"""Candidate texels examined at once; bounds memory to about 300 MB."""


@dataclass(frozen=True)
class Texels:
    """Texels that belong to a triangle, each once."""

    index: Int[ndarray, " texels"]
    """row * size + column."""
    face_index: Int[ndarray, " texels"]
    barycentric: Float[ndarray, "texels 3"]
    """Weights of the triangle's corners, in [0, 1]."""
    overlapping: Int[ndarray, " overlaps"]
    """Texels whose centre lies inside more than one triangle."""
    num_inside: int
    """Texels whose centre lies inside a triangle."""

    @property
    def overlap(self) -> float:
        """Share of the covered texels that is covered twice."""
        return len(self.overlapping) / max(1, self.num_inside)


def rasterize(
    uv: Float[ndarray, "vertices 2"], faces: Int[ndarray, "faces 3"], size: int
) -> Texels:
    """Find the texels of every triangle, with a border of `BORDER` texels around charts.

    Args:
        uv: in [0, 1].
        faces: vertex indices.
        size: texels along each side of the square texture.
    """
    corners = np.stack([uv[:, 0] * size - 0.5, (1 - uv[:, 1]) * size - 0.5], axis=1)[faces]
    corners = corners.astype(np.float64)
    low = np.clip(np.ceil(corners.min(axis=1) - BORDER), 0, size - 1).astype(np.int64)
    high = np.clip(np.floor(corners.max(axis=1) + BORDER), 0, size - 1).astype(np.int64)
    box = high - low + 1
    total = np.cumsum(box.prod(axis=1))
    cuts = np.searchsorted(total, np.arange(CHUNK, total[-1], CHUNK)) if len(total) else []
    parts = [
        _examine(corners[chunk], low[chunk], box[chunk], chunk)
        for chunk in np.split(np.arange(len(faces)), cuts)
        if len(chunk)
    ]
    return _choose(parts, size)


def _examine(corners: ndarray, low: ndarray, box: ndarray, chunk: ndarray) -> tuple[ndarray, ...]:
    """Return column, row, face, weights and distance of all texels in or near some triangles.

    The signed distance to edge k is affine, A_k x + B_k y + C_k with (x, y) counted from the
    corner of the triangle's box; the weight of the opposite corner is it over that corner's height.
    """
    affine, height = _edge_functions(corners - low[:, None])
    count = np.where(height.min(axis=1) > 1e-6, box.prod(axis=1), 0)
    local = np.repeat(np.arange(len(chunk), dtype=np.int32), count)
    step = np.arange(len(local)) - np.repeat(np.cumsum(count) - count, count)
    width = np.repeat(box[:, 0], count)
    row = step // width
    column = step - row * width
    a, b, c = np.moveaxis(np.repeat(affine.astype(np.float32), count, axis=0), 2, 0)
    x, y = column.astype(np.float32)[:, None], row.astype(np.float32)[:, None]
    distance = a * x + b * y + c
    near = distance.min(axis=1)
    kept = np.nonzero(near > -BORDER)[0]
    face = local[kept]
    weight = distance[kept] / height[face]
    return low[face, 0] + column[kept], low[face, 1] + row[kept], chunk[face], weight, near[kept]


def _edge_functions(corners: ndarray) -> tuple[ndarray, ndarray]:
    """Return (A, B, C) of the edge opposite to each corner, and the height of each corner."""
    affine, height = [], []
    for k in range(3):
        p, q, r = (corners[:, (k + i) % 3] for i in range(3))
        edge = r - q
        length = np.maximum(np.linalg.norm(edge, axis=1), 1e-12)
        normal = np.stack([-edge[:, 1], edge[:, 0]], axis=1) / length[:, None]
        signed = np.einsum("ni,ni->n", normal, p - q)
        normal *= np.where(signed < 0, -1.0, 1.0)[:, None]
        affine.append(np.column_stack([normal, -np.einsum("ni,ni->n", normal, q)]))
        height.append(np.abs(signed))
    return np.stack(affine, axis=1), np.stack(height, axis=1)


def _choose(parts: list[tuple[ndarray, ...]], size: int) -> Texels:
    """Give every texel to the triangle that it lies deepest in or nearest to."""
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Texels(none, none, np.zeros((0, 3)), none, 0)
    x, y, face, weight, near = (np.concatenate(column) for column in zip(*parts, strict=True))
    texel = y * size + x
    order = np.argsort(near, kind="stable")
    winner = np.full(size * size, -1, dtype=np.int64)
    winner[texel[order]] = order  # the last write, the deepest, stays
    index = np.nonzero(winner >= 0)[0]
    chosen = winner[index]
    weight = np.clip(weight[chosen], 0, None)
    weight = weight / weight.sum(axis=1, keepdims=True)
    layers = np.bincount(texel[near > INSIDE], minlength=size * size)
    num_inside = int((near[chosen] >= 0).sum())
    overlapping = np.nonzero(layers > 1)[0]
    return Texels(index, face[chosen], weight, overlapping, num_inside)
