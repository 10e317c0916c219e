"""Tangents of a mesh with UV coordinates: the frame that normal maps are written in.

    t = dP/du on the surface, b = w n x t,   w = 1, or -1 where the texture is mirrored

so that with texture coordinates that rise to the right and upwards, t points to the right of the
picture and b to its top. At a vertex, t is the mean over its triangles, each weighted by its angle
there, made orthogonal to the normal.

Glossary: `P` position, `n` unit normal, `u`, `v` texture coordinates.

Source: glTF 2.0, section 3.7.2.1; MikkTSpace (Mikkelsen 2008), whose weights these are. Programs
that compute their own tangents get the same up to rounding, since vertices are split along seams.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh


def vertex_tangents(mesh: Mesh) -> Float[ndarray, "vertices 4"]:
    """Return (t, w) at every vertex; any direction across the normal where u does not change.

    Raises:
        InputError: the mesh has no UV or no normals.
    """
    if mesh.uv is None or mesh.normals is None:
        raise InputError("tangents need UV and normals.", "unwrap the mesh first.")
    corners, uv = mesh.triangles.astype(np.float64), mesh.uv[mesh.faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    (u1, v1), (u2, v2) = (np.moveaxis(uv[:, k] - uv[:, 0], 1, 0) for k in (1, 2))
    area = u1 * v2 - u2 * v1
    rise = (v2[:, None] * first - v1[:, None] * second) * np.sign(area)[:, None]
    normals = mesh.normals.astype(np.float64)

    total, side = np.zeros_like(normals), np.zeros(len(normals))
    angles = _angles(corners)
    for k in range(3):
        vertex = mesh.faces[:, k]
        flat = _unit(_across(rise, normals[vertex]))
        np.add.at(total, vertex, angles[:, k : k + 1] * flat)
        np.add.at(side, vertex, area)
    tangent = _across(total, normals)
    is_lost = np.linalg.norm(tangent, axis=1) < 1e-6
    axis = np.eye(3)[np.abs(normals).argmin(axis=1)]
    tangent[is_lost] = _across(axis, normals)[is_lost]
    return np.column_stack([_unit(tangent), np.where(side < 0, -1.0, 1.0)]).astype(np.float32)


def _across(vectors: ndarray, normals: ndarray) -> ndarray:
    """Return the part of vectors that is orthogonal to unit normals."""
    return vectors - (vectors * normals).sum(axis=1, keepdims=True) * normals


def _unit(vectors: ndarray) -> ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)


def _angles(corners: Float[ndarray, "faces 3 3"]) -> Float[ndarray, "faces 3"]:
    """Return the angle of each triangle at each of its corners, radians."""
    angles = []
    for k in range(3):
        a, b = (_unit(corners[:, (k + i) % 3] - corners[:, k]) for i in (1, 2))
        angles.append(np.arccos(np.clip((a * b).sum(axis=1), -1, 1)))
    return np.stack(angles, axis=1)
