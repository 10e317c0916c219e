"""Where a model stands in a file: on the ground, centred, of a given height, facing the viewer.

The origin is the middle of the base: the bounding box is centred on it sideways and starts at
height 0. One unit of a file is one metre.
"""

from dataclasses import dataclass, replace

import numpy as np

from dreamlab.core.errors import InputError
from dreamlab.core.frames import ROTATION, Frame, to_world_axes
from dreamlab.core.mesh import Mesh


@dataclass(frozen=True)
class Placement:
    """World to file: rotate(scale * (x - origin))."""

    scale: float
    """Metres a world unit."""
    origin: tuple[float, float, float]
    """World point under the middle of the model."""

    @classmethod
    def on_ground(cls, mesh: Mesh, height: float) -> "Placement":
        """Stand a mesh on the ground, `height` metres tall.

        Raises:
            InputError: the height is not positive, or the mesh is flat.
        """
        if not height > 0:
            raise InputError(
                f"the height is {height} m, it must be positive.", "change export.height."
            )
        low, high = (bound.astype(np.float64) for bound in mesh.bounds)
        extent = high - low
        if not extent[2] > 1e-6 * extent.max():
            raise InputError(
                "the model is flat: its height is zero.",
                "optimise for more steps, or export another state.",
            )
        x, y = ((low + high) / 2)[:2]
        return cls(height / float(extent[2]), (float(x), float(y), float(low[2])))

    def apply(self, mesh: Mesh, frame: Frame) -> Mesh:
        """Move a mesh from the world to the frame of a file; vertices become 32-bit floats."""
        rotation = ROTATION[frame]
        vertices = self.scale * (mesh.vertices.astype(np.float64) - self.origin) @ rotation.T
        normals = None if mesh.normals is None else (mesh.normals @ rotation.T).astype(np.float32)
        return replace(mesh, vertices=vertices.astype(np.float32), normals=normals)

    def undo(self, mesh: Mesh, frame: Frame) -> Mesh:
        """Move a mesh from the frame of a file back to the world."""
        turned = to_world_axes(mesh, frame)
        vertices = turned.vertices.astype(np.float64) / self.scale + self.origin
        return replace(turned, vertices=vertices.astype(np.float32))
