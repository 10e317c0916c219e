"""A triangle mesh as tensors, with gradients; `core.mesh` is one for files."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.core.mesh import Mesh
from dreamlab.core.topology import Topology, build_topology


@dataclass(frozen=True)
class Triangles:
    """Vertices and triangles in world space."""

    vertices: Float[Tensor, "vertices 3"]
    """World units; differentiable."""
    tri: Int[Tensor, "triangles 3"]
    """Vertex numbers, counter-clockwise seen from outside."""
    owner: Int[Tensor, " triangles"] | None = field(default=None, kw_only=True)
    """Number of the layout's object that each triangle is of; none where that is not known."""

    @cached_property
    def topology(self) -> Topology:
        """The edges of the triangles; found once."""
        return build_topology(self.tri)

    def moved_to(self, vertices: Float[Tensor, "vertices 3"]) -> "Triangles":
        """Return the same triangles between other vertices; their edges are not found again."""
        moved = Triangles(vertices, self.tri)
        moved.__dict__["topology"] = self.topology
        return moved

    def to_mesh(self) -> Mesh:
        """Return the mesh as plain arrays."""
        vertices = self.vertices.detach().cpu().numpy().astype(np.float32)
        return Mesh(vertices, self.tri.cpu().numpy().astype(np.int64))
