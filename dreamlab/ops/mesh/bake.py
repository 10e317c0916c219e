"""Paint: ask the representation for the colour of the surface under every texel.

Each texel that a triangle covers (or nearly does) is a point of the surface; its colour is queried
there. Texels that belong to no triangle take the colour of the nearest one that does, so that
neither bilinear sampling nor mip-mapping ever mixes in a background: seams stay invisible.

With a material, roughness, metallic and normals are painted likewise, into textures of their own.

A normal map holds (m . t, m . b, m . n) of the bumpy normal m, with n interpolated between vertices
and t, b those of `tangents.py` there.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.pictures import normal_to_rgb, to_bytes
from dreamlab.core.protocols import ColorAt, Material
from dreamlab.ops.mesh.tangents import vertex_tangents
from dreamlab.ops.mesh.texels import Texels, rasterize

CHUNK = 1 << 16
"""Points whose colour is asked for at once."""

MaterialAt = Callable[[Float[Tensor, "points 3"]], Material]
"""The material at world points."""


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
    points = _interpolate(mesh, texels, mesh.vertices)
    texture = np.zeros((len(points), 3), dtype=np.uint8)
    for chunk in _chunks(len(points)):
        texture[chunk] = _query(color_at, points[chunk], device)
        on_progress(min(1.0, chunk.stop / len(points)))
    return _spread(texture, texels, texture_size), texels


def bake_material(
    mesh: Mesh,
    texels: Texels,
    material_at: MaterialAt,
    texture_size: int,
    *,
    device: torch.device | str = "cpu",
) -> Mesh:
    """Paint roughness and metallic, and the normals if the material has bumps.

    Args:
        mesh: world coordinates, with `uv` and `normals`.
        texels: of the mesh, as `bake` returns them.
        material_at: asked at points of the surface.
        texture_size: texels along each side.
        device: where `material_at` wants its points.

    Returns:
        The mesh with `metallic_roughness`, and `normal_map` if there are bumps.

    Raises:
        InputError: the mesh has no normals, or a value is not finite.
    """
    if mesh.normals is None:
        raise InputError("a material needs normals.", "compute normals before baking.")
    points = _interpolate(mesh, texels, mesh.vertices)
    normals = _unit(_interpolate(mesh, texels, mesh.normals))
    surface = np.full((len(points), 3), 255, dtype=np.uint8)
    bent = normals.copy()
    has_bumps = False
    for chunk in _chunks(len(points)):
        with torch.no_grad():
            material = material_at(torch.from_numpy(points[chunk]).to(device))
            normal = torch.from_numpy(normals[chunk]).to(device)
            values = torch.cat(
                [material.roughness, material.metallic, material.bend(normal)], dim=1
            )
        found = _finite(values)
        surface[chunk, 1:], bent[chunk] = to_bytes(found[:, :2]), found[:, 2:]
        has_bumps = material.bump is not None
    baked = replace(mesh, metallic_roughness=_spread(surface, texels, texture_size))
    if not has_bumps:
        return baked
    relief = to_bytes(normal_to_rgb(_in_tangent_frame(mesh, texels, normals, bent)))
    return replace(baked, normal_map=_spread(relief, texels, texture_size))


def _in_tangent_frame(mesh: Mesh, texels: Texels, normals: ndarray, bent: ndarray) -> ndarray:
    """Return (m . t, m . b, m . n) for the normals m = `bent` of all texels."""
    tangents = vertex_tangents(mesh)
    along = _interpolate(mesh, texels, tangents[:, :3])
    t = _unit(along - (along * normals).sum(axis=1, keepdims=True) * normals)
    side = tangents[mesh.faces[texels.face_index, 0], 3:]
    b = side * np.cross(normals, t)
    return np.stack([(bent * axis).sum(axis=1) for axis in (t, b, normals)], axis=1)


def _interpolate(mesh: Mesh, texels: Texels, values: ndarray) -> ndarray:
    """Return what vertices have, at the texels, as 32-bit floats."""
    corners = values[mesh.faces[texels.face_index]].astype(np.float64)
    return np.einsum("nkc,nk->nc", corners, texels.barycentric).astype(np.float32)


def _unit(vectors: ndarray) -> ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _chunks(count: int) -> list[slice]:
    return [slice(begin, min(begin + CHUNK, count)) for begin in range(0, count, CHUNK)]


def vertex_colors(
    mesh: Mesh, color_at: ColorAt, device: torch.device | str = "cpu"
) -> Float[ndarray, "vertices 3"]:
    """Return the colour at every vertex, sRGB in [0, 1]."""
    points = mesh.vertices.astype(np.float32)
    pieces = [_query(color_at, points[i : i + CHUNK], device) for i in range(0, len(points), CHUNK)]
    return np.concatenate(pieces).astype(np.float64) / 255


def _query(color_at: ColorAt, points: ndarray, device: torch.device | str) -> ndarray:
    with torch.no_grad():
        return to_bytes(_finite(color_at(torch.from_numpy(points).to(device))))


def _finite(values: Tensor) -> ndarray:
    found = values.float().cpu().numpy()
    if not np.isfinite(found).all():
        raise InputError("the field has colours that are not finite.", "use an earlier state.")
    return found


def _spread(values: ndarray, texels: Texels, size: int) -> UInt8[ndarray, "size size 3"]:
    """Make a texture of the texels' values; others take that of the nearest one."""
    texture = np.zeros((size * size, 3), dtype=np.uint8)
    texture[texels.index] = values
    return dilate(texture.reshape(size, size, 3), texels)


def dilate(texture: UInt8[ndarray, "size size 3"], texels: Texels) -> UInt8[ndarray, "size size 3"]:
    """Give every texel outside all charts the colour of the nearest texel inside one.

    Raises:
        InputError: there are no texels inside charts.
    """
    size = texture.shape[0]
    empty = np.ones(size * size, dtype=bool)
    empty[texels.index] = False
    if empty.all():
        raise InputError("no triangle covers a texel.", "raise texture_size.")
    nearest = np.zeros((2, size, size), dtype=np.int32)
    distance_transform_edt(
        empty.reshape(size, size), return_distances=False, return_indices=True, indices=nearest
    )
    row, column = nearest
    return texture.reshape(size, size, 3)[row, column]
