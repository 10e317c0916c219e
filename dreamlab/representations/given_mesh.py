"""A mesh that is given, not found: its triangles stay, its vertices may move a little.

    x_i = v_i + d tanh(o_i)     vertices of the given mesh, moved by at most d

Glossary: `v_i` given vertices and `o_i` offsets, world units; `d` reach.

Regularisers: those of `surface_losses.py`, the Laplacian over the mean squared length of an edge of
the given mesh, so that its weight does not depend on how fine that is.
"""

from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.mesh import Mesh
from dreamlab.core.triangles import Triangles
from dreamlab.representations.surface_losses import laplacian, normal_consistency

BALL = 0.5
"""Radius of the ball that stands in for a mesh, world units."""


def ball() -> Mesh:
    """Return the ball that stands in for a mesh until it is known."""
    model = trimesh.creation.icosphere(subdivisions=3, radius=BALL)
    return Mesh(model.vertices.astype(np.float32), model.faces.astype(np.int64))


def check_place(half_extent: float, reach: float) -> None:
    """Refuse settings that leave the ball no room, or a negative reach.

    Raises:
        ValueError: naming the setting.
    """
    if half_extent <= BALL:
        raise ValueError(f"half_extent must be above {BALL}, got {half_extent}")
    if reach < 0:
        raise ValueError(f"reach must not be negative, got {reach}")


class GivenMesh(nn.Module):
    """Triangles, and offsets of their vertices; its state holds the mesh.

    Gradients: vertices to offsets, if they have a reach.
    """

    given: Tensor
    tri: Tensor

    def __init__(self, mesh: Mesh, reach: float) -> None:
        """Begin as `mesh`; `reach` is d."""
        super().__init__()
        self.reach = reach
        self.register_buffer("given", torch.zeros(0, 3))
        self.register_buffer("tri", torch.zeros(0, 3, dtype=torch.long))
        self.offset = nn.Parameter(torch.zeros(0, 3))
        self._kept: Triangles | None = None
        self.register_load_state_dict_pre_hook(_make_room)
        self.become(mesh)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the group "offset"; without a reach nothing moves it."""
        return {"offset": [self.offset]}

    def become(self, mesh: Mesh) -> None:
        """Become another mesh, vertex for vertex."""
        self.resize(len(mesh.vertices), len(mesh.faces))
        with torch.no_grad():
            self.given.copy_(torch.from_numpy(mesh.vertices))
            self.tri.copy_(torch.from_numpy(mesh.faces))

    def resize(self, num_vertices: int, num_triangles: int) -> None:
        """Make room for another mesh; the parameter stays the object that optimisers know."""
        self.given = self.given.new_zeros(num_vertices, 3)
        self.tri = self.tri.new_zeros(num_triangles, 3)
        self.offset.data = self.offset.data.new_zeros(num_vertices, 3)
        self._kept = None

    def triangles(self) -> Triangles:
        """Return the mesh; the same object every time if nothing can move."""
        if self._kept is None or self._kept.vertices is not self.given:
            self._kept = Triangles(self.given, self.tri)
        if not self.reach:
            return self._kept
        return self._kept.moved_to(self.given + self.reach * self.offset.tanh())

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of the module docstring."""
        surface = self.triangles()
        a, b = self.given[surface.topology.edges].unbind(dim=1)
        size = (a - b).square().sum(dim=1).mean()
        return {
            "normal_consistency": normal_consistency(surface),
            "laplacian": laplacian(surface) / size,
        }


def _make_room(module: GivenMesh, state: dict[str, Any], prefix: str, *_: object) -> None:
    given, tri = state.get(f"{prefix}given"), state.get(f"{prefix}tri")
    if given is not None and tri is not None:
        module.resize(len(given), len(tri))
