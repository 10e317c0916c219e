"""A given mesh with a texture to be found: its triangles stay, its vertices may move a little.

    x_i = v_i + d tanh(o_i)     vertices of the given mesh, moved by at most d
    albedo                      see `painted.py`

The mesh is that of the stage before or of a file (`start_from`); until it is known, a ball. Colours
begin as that object's own.

Glossary: `v_i` given vertices and `o_i` offsets, world units; `d` reach.

Regularisers: those of `surface_losses.py`, the Laplacian over the mean squared length of an edge of
the given mesh, so that its weight does not depend on how fine that is.

Source: texture stages of Fantasia3D (Chen et al. 2023) and ProlificDreamer (Wang et al. 2023).
"""

from dataclasses import dataclass
from typing import Any

import torch
import trimesh
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import ColorAt
from dreamlab.core.triangles import Triangles
from dreamlab.representations.painted import PaintConfig, Painted
from dreamlab.representations.surface_losses import laplacian, normal_consistency

BALL = 0.5
"""Radius of the ball that stands in for a mesh, world units."""
SPREAD = 0.005
"""Distance from the surface within which its colours are taken over, in half extents."""


@dataclass(frozen=True, slots=True)
class Config(PaintConfig):
    """Settings of the mesh and of the hash grid that colours it."""

    half_extent: float = 1.0
    """Half the side of the cube that the mesh lies in, world units."""
    reach: float = 0.0
    """d, how far a vertex may move along each axis, world units; 0 keeps the shape."""

    def __post_init__(self) -> None:
        PaintConfig.__post_init__(self)
        if self.half_extent <= BALL:
            raise ValueError(f"half_extent must be above {BALL}, got {self.half_extent}")
        if self.reach < 0:
            raise ValueError(f"reach must not be negative, got {self.reach}")


class TexturedMesh(Painted):
    """A mesh with colours; satisfies `Shape`, `Adopting` and `Representation`.

    Gradients: vertices to offsets, if they have a reach; the albedo to the hash grid and to points.
    """

    given: Tensor
    tri: Tensor

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        """Start as a grey ball; `generator` (CPU) draws the features."""
        super().__init__(config, config.half_extent, generator)
        self.config = config
        ball = trimesh.creation.icosphere(subdivisions=3, radius=BALL)
        self.register_buffer("given", torch.from_numpy(ball.vertices).float())
        self.register_buffer("tri", torch.from_numpy(ball.faces).long())
        self.offset = nn.Parameter(torch.zeros_like(self.given))
        self.register_load_state_dict_pre_hook(_make_room)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups "offset", "table" and "mlp"."""
        return {"offset": [self.offset], **self.paint_groups()}

    def triangles(self) -> Triangles:
        """Return the mesh."""
        return Triangles(self.given + self.config.reach * self.offset.tanh(), self.tri)

    def adopt(self, mesh: Mesh, color_at: ColorAt) -> None:
        """Become a mesh, vertex for vertex, and fit its colours."""
        self._resize(len(mesh.vertices), len(mesh.faces))
        with torch.no_grad():
            self.given.copy_(torch.from_numpy(mesh.vertices))
            self.tri.copy_(torch.from_numpy(mesh.faces))
            self.offset.zero_()
        self.paint_like(mesh, color_at, spread=SPREAD * self.half_extent)

    def _resize(self, num_vertices: int, num_triangles: int) -> None:
        """Make room for another mesh; the parameter stays the object that optimisers know."""
        self.given = self.given.new_zeros(num_vertices, 3)
        self.tri = self.tri.new_zeros(num_triangles, 3)
        self.offset.data = self.offset.data.new_zeros(num_vertices, 3)

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of the module docstring."""
        surface = self.triangles()
        a, b = self.given[surface.topology.edges.long()].unbind(dim=1)
        size = (a - b).square().sum(dim=1).mean()
        return {
            "normal_consistency": normal_consistency(surface),
            "laplacian": laplacian(surface) / size,
        }


def build(config: Config, generator: torch.Generator | None = None) -> TexturedMesh:
    """Make the representation; `generator` (CPU) draws its initial features."""
    return TexturedMesh(config, generator)


def _make_room(module: TexturedMesh, state: dict[str, Any], prefix: str, *_: object) -> None:
    given, tri = state.get(f"{prefix}given"), state.get(f"{prefix}tri")
    if given is not None and tri is not None:
        module._resize(len(given), len(tri))
