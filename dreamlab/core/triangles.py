"""A triangle mesh as tensors, with gradients; `core.mesh` is one for files."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.core.mesh import Mesh


@dataclass(frozen=True)
class Triangles:
    """Vertices and triangles in world space."""

    vertices: Float[Tensor, "vertices 3"]
    """World units; differentiable."""
    tri: Int[Tensor, "triangles 3"]
    """Vertex numbers, counter-clockwise seen from outside."""

    def to_mesh(self) -> Mesh:
        """Return the mesh as plain arrays."""
        vertices = self.vertices.detach().cpu().numpy().astype(np.float32)
        return Mesh(vertices, self.tri.cpu().numpy().astype(np.int64))
