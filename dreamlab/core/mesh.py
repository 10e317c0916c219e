"""A triangle mesh as plain arrays.

World coordinates of the project (z up, front +x) unless a writer says otherwise; triangles are
counter-clockwise seen from outside; colours are sRGB in [0, 1]; UV (0, 0) is the bottom left corner
of the texture, whose row 0 is its top.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy import ndarray


@dataclass(frozen=True)
class Mesh:
    """Vertices, triangles and what is painted on them."""

    vertices: Float[ndarray, "vertices 3"]
    faces: Int[ndarray, "faces 3"]
    colors: Float[ndarray, "vertices 3"] | None = None
    """Vertex colours, sRGB in [0, 1]."""
    normals: Float[ndarray, "vertices 3"] | None = None
    """Unit vertex normals."""
    uv: Float[ndarray, "vertices 2"] | None = None
    """Texture coordinates in [0, 1]; vertices are split along seams."""
    texture: UInt8[ndarray, "height width 3"] | None = None
    """Base colour, sRGB bytes."""
    metallic_roughness: UInt8[ndarray, "height width 3"] | None = None
    """Roughness in green and metallic in blue, 255 is 1, as glTF has them; red is full."""
    normal_map: UInt8[ndarray, "height width 3"] | None = None
    """Normals in the frame of tangent, bitangent and normal, (n + 1) / 2, as glTF has them."""

    @property
    def bounds(self) -> tuple[Float[ndarray, " 3"], Float[ndarray, " 3"]]:
        """Lowest and highest corner of the bounding box."""
        return self.vertices.min(axis=0), self.vertices.max(axis=0)

    @property
    def triangles(self) -> Float[ndarray, "faces 3 3"]:
        """Corner positions of every triangle."""
        return self.vertices[self.faces]

    @property
    def face_areas(self) -> Float[ndarray, " faces"]:
        a, b, c = np.moveaxis(self.triangles, 1, 0)
        return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=-1)


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """Return meshes as one, without textures; vertices and triangles follow one another.

    It has the colours and the normals of its vertices if all of the meshes do.
    """
    if len(meshes) == 1:
        return meshes[0]
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    colors = [mesh.colors for mesh in meshes if mesh.colors is not None]
    normals = [mesh.normals for mesh in meshes if mesh.normals is not None]
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate(faces),
        colors=np.concatenate(colors) if len(colors) == len(meshes) else None,
        normals=np.concatenate(normals) if len(normals) == len(meshes) else None,
    )
