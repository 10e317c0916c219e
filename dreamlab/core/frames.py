"""Axes of the world and of files.

The project's world has z up and objects that face +x. Three conventions are written, each the one
that importers of the format expect, so that every mesh arrives upright and facing -y in Blender:

    "y up", GLB and OBJ: (X, Y, Z) = (y, z, x), front +Z; importers turn it upright.
    "z up", PLY and STL: (X, Y, Z) = (y, -x, z), front -Y; importers and slicers take it as it is.
    "y down", Gaussians: (X, Y, Z) = (-y, -z, x), front +Z; viewers may turn it about Z by 180 deg.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from dreamlab.core.mesh import Mesh

Frame = Literal["y up", "z up", "y down"]

ROTATION = {
    "y up": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
    "z up": np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    "y down": np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]),
}
"""File axes of the world's axes; proper rotations, so triangles keep their orientation."""
FRAME_OF: dict[str, Frame] = {
    ".glb": "y up",
    ".gltf": "y up",
    ".obj": "y up",
    ".ply": "z up",
    ".stl": "z up",
}
"""Formats of meshes that can be read, by suffix."""


def to_world_axes(mesh: Mesh, frame: Frame) -> Mesh:
    """Turn a mesh of a file to the world's axes, keeping its size and origin."""
    rotation = ROTATION[frame]

    def turn(vectors: Float[ndarray, "count 3"]) -> Float[ndarray, "count 3"]:
        return (vectors @ rotation).astype(np.float32)

    normals = None if mesh.normals is None else turn(mesh.normals)
    return replace(mesh, vertices=turn(mesh.vertices), normals=normals)
