"""The texture of a mesh of several pieces, each painted by its own representation.

All share one atlas. A texel is painted by the piece whose triangle it belongs to or, where there is
none, by that of the nearest texel that has one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import HasMaterial
from dreamlab.export.objects import Piece
from dreamlab.ops.mesh.bake import bake, bake_material, dilate
from dreamlab.ops.mesh.texels import Texels, rasterize
from dreamlab.ops.mesh.unwrap import Unwrap

MAPS = ("texture", "metallic_roughness", "normal_map")
"""What may be painted, as `Mesh` names it."""


def paint(
    pieces: Sequence[Piece],
    local: Mesh,
    index: Int[ndarray, " faces"],
    unwrapped: Unwrap,
    size: int,
    on_progress: Callable[[float], None],
) -> tuple[Mesh, Texels]:
    """Paint every piece in its own frame, where its representation knows the colours.

    Args:
        pieces: what is asked for colours.
        local: the mesh before it was unwrapped, with normals, each piece in its own frame.
        index: the piece that each triangle is of.
        unwrapped: the mesh in the world.
        size: of the textures, texels.
        on_progress: called with the fraction done.

    Returns:
        The mesh in the world with its textures, and its texels.
    """
    assert local.normals is not None and unwrapped.mesh.uv is not None
    vertices, normals = local.vertices[unwrapped.source], local.normals[unwrapped.source]
    painted: list[Mesh] = []
    texels: list[Texels] = []
    for k, piece in enumerate(pieces):
        own = replace(
            unwrapped.mesh,
            vertices=vertices,
            normals=normals,
            faces=unwrapped.mesh.faces[index == k],
        )
        mesh, covered = _painted(
            own, piece, size, lambda f, k=k: on_progress((k + f) / len(pieces))
        )
        painted.append(mesh)
        texels.append(covered)
    if len(pieces) == 1:
        maps = {name: getattr(painted[0], name) for name in MAPS}
        return replace(unwrapped.mesh, **maps), texels[0]
    together = rasterize(unwrapped.mesh.uv, unwrapped.mesh.faces, size)
    return _put_together(unwrapped.mesh, painted, index, together), together


def _painted(
    mesh: Mesh, piece: Piece, size: int, on_progress: Callable[[float], None]
) -> tuple[Mesh, Texels]:
    """Paint a mesh in the frame of a piece; return it, and its texels."""
    shape, device = piece.representation, piece.device
    texture, texels = bake(mesh, shape.color_at, size, device=device, on_progress=on_progress)
    mesh = replace(mesh, texture=texture)
    if not isinstance(shape, HasMaterial) or not shape.has_material:
        return mesh, texels
    return bake_material(mesh, texels, shape.material, size, device=device), texels


def _put_together(
    whole: Mesh, painted: Sequence[Mesh], index: Int[ndarray, " faces"], texels: Texels
) -> Mesh:
    """Give a mesh the textures of its parts; those are painted on the same atlas."""
    first = painted[0].texture
    assert first is not None
    size = len(first)
    number = np.zeros((size * size, 3), dtype=np.uint8)
    number[texels.index] = index[texels.face_index, None]
    number = dilate(number.reshape(size, size, 3), texels)
    textures = {name: [getattr(part, name) for part in painted] for name in MAPS}
    chosen = {
        name: None if any(t is None for t in own) else np.choose(number, own)
        for name, own in textures.items()
    }
    return replace(whole, **chosen)
