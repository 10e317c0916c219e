"""Paint: ask the representation for the colour of the surface under every texel.

Each texel that a triangle covers (or nearly does) is a point of the surface; its colour is queried
there. Texels that belong to no triangle take the colour of the nearest one that does, so that
neither bilinear sampling nor mip-mapping ever mixes in a background: seams stay invisible.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.pictures import to_bytes
from dreamlab.export.mesh.texels import Texels, rasterize

CHUNK = 1 << 16
"""Points whose colour is asked for at once."""

ColorAt = Callable[[Float[Tensor, "points 3"]], Float[Tensor, "points 3"]]


def bake(
    mesh: Mesh,
    color_at: ColorAt,
    texture_size: int,
    *,
    device: torch.device | str = "cpu",
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[UInt8[ndarray, "size size 3"], Texels]:
    """Paint a texture for a mesh with UV coordinates.

    Args:
        mesh: world coordinates, with `uv`.
        color_at: sRGB in [0, 1] at world points.
        texture_size: texels along each side.
        device: where `color_at` wants its points.
        on_progress: called with the fraction done.

    Returns:
        The texture, row 0 at the top, and the texels that belong to triangles.

    Raises:
        InputError: the mesh has no UV, or a colour is not finite.
    """
    if mesh.uv is None:
        raise InputError("the mesh has no UV coordinates to bake to.", "unwrap it first.")
    texels = rasterize(mesh.uv, mesh.faces, texture_size)
    corners = mesh.triangles[texels.face_index].astype(np.float64)
    points = np.einsum("nkc,nk->nc", corners, texels.barycentric).astype(np.float32)
    texture = np.zeros((texture_size * texture_size, 3), dtype=np.uint8)
    for begin in range(0, len(points), CHUNK):
        chunk = slice(begin, begin + CHUNK)
        texture[texels.index[chunk]] = _query(color_at, points[chunk], device)
        on_progress(min(1.0, (begin + CHUNK) / len(points)))
    return _fill(texture.reshape(texture_size, texture_size, 3), texels), texels


def vertex_colors(
    mesh: Mesh, color_at: ColorAt, device: torch.device | str = "cpu"
) -> Float[ndarray, "vertices 3"]:
    """Return the colour at every vertex, sRGB in [0, 1]."""
    points = mesh.vertices.astype(np.float32)
    pieces = [_query(color_at, points[i : i + CHUNK], device) for i in range(0, len(points), CHUNK)]
    return np.concatenate(pieces).astype(np.float64) / 255


def _query(color_at: ColorAt, points: ndarray, device: torch.device | str) -> ndarray:
    with torch.no_grad():
        color = color_at(torch.from_numpy(points).to(device)).float().cpu().numpy()
    if not np.isfinite(color).all():
        raise InputError("the field has colours that are not finite.", "use an earlier state.")
    return to_bytes(color)


def _fill(texture: ndarray, texels: Texels) -> ndarray:
    """Give every texel outside all charts the colour of the nearest texel inside one."""
    size = texture.shape[0]
    empty = np.ones(size * size, dtype=bool)
    empty[texels.index] = False
    if empty.all():
        raise InputError("no triangle covers a texel.", "raise export.texture_size.")
    nearest = np.zeros((2, size, size), dtype=np.int32)
    distance_transform_edt(
        empty.reshape(size, size), return_distances=False, return_indices=True, indices=nearest
    )
    row, column = nearest
    return texture[row, column]
