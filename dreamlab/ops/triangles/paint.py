"""What a mesh is painted with at points of its triangles. Nothing here has a gradient.

Glossary: `weight` (w0, w1, w2) barycentric, of a triangle's corners in the order of its face row.

Conventions: sRGB; UV (0, 0) is the bottom left corner of the texture, whose row 0 is its top.
"""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from dreamlab.core.mesh import Mesh

UNPAINTED = 0.7
"""Grey (sRGB) of a mesh that has neither texture nor vertex colours."""


class Paint:
    """The texture of a mesh, or its vertex colours, or neither, on a device."""

    def __init__(self, mesh: Mesh, device: torch.device | str = "cpu") -> None:
        def upload(values: ndarray | None) -> Tensor | None:
            return None if values is None else torch.as_tensor(values, device=device).float()

        self.faces = torch.as_tensor(mesh.faces.astype(np.int64), device=device)
        self.colors, self.uv = upload(mesh.colors), upload(mesh.uv)
        self.texture = None
        if mesh.texture is not None:
            self.texture = torch.tensor(mesh.texture, device=device)

    def at(
        self, face: Int[Tensor, " points"], weight: Float[Tensor, "points 3"]
    ) -> Float[Tensor, "points 3"]:
        """Return the colours, sRGB in [0, 1], at points of triangles; textures bilinearly."""
        if self.texture is not None and self.uv is not None:
            return sample_texture(self.texture, self.interpolate(self.uv, face, weight))
        if self.colors is not None:
            return self.interpolate(self.colors, face, weight)
        return torch.full_like(weight, UNPAINTED)

    def interpolate(
        self,
        attribute: Float[Tensor, "vertices channels"],
        face: Int[Tensor, " points"],
        weight: Float[Tensor, "points 3"],
    ) -> Float[Tensor, "points channels"]:
        """Return an attribute of vertices at points of triangles."""
        return torch.einsum("nkc,nk->nc", attribute[self.faces[face]], weight)


def sample_texture(
    texture: UInt8[Tensor, "height width 3"], uv: Float[Tensor, "points 2"]
) -> Float[Tensor, "points 3"]:
    """Sample bytes bilinearly, clamped at the border.

    Args:
        texture: sRGB bytes, row 0 at the top.
        uv: in [0, 1], (0, 0) at the bottom left corner.

    Returns:
        sRGB in [0, 1].
    """
    height, width = texture.shape[:2]
    x = (uv[:, 0] * width - 0.5).clamp(0, width - 1)
    y = ((1 - uv[:, 1]) * height - 0.5).clamp(0, height - 1)
    x0, y0 = x.long(), y.long()
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]

    def texel(row: Tensor, column: Tensor) -> Tensor:
        return texture[row, column].float() / 255

    top = texel(y0, x0) * (1 - fx) + texel(y0, x1) * fx
    bottom = texel(y1, x0) * (1 - fx) + texel(y1, x1) * fx
    return top * (1 - fy) + bottom * fy
