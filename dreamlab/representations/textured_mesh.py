"""A given mesh with colours to be found on a hash grid: `given_mesh.py` painted by `painted.py`.

The mesh is that of the stage before or of a file (`start_from`); until it is known, a ball. Colours
begin as that object's own. Regularisers: see `given_mesh.py`.

Source: texture stages of Fantasia3D (Chen et al. 2023) and ProlificDreamer (Wang et al. 2023).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.mesh import Mesh
from dreamlab.core.triangles import Triangles
from dreamlab.representations.given_mesh import GivenMesh, ball, check_place
from dreamlab.representations.painted import PaintConfig, Painted

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
        check_place(self.half_extent, self.reach)


class TexturedMesh(Painted):
    """A mesh with colours; satisfies `Shape`, `Adopting` and `Representation`.

    Gradients: vertices to offsets, if they have a reach; the albedo to the hash grid and to points.
    """

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        """Start as a grey ball; `generator` (CPU) draws the features."""
        super().__init__(config, config.half_extent, generator)
        self.config = config
        self.body = GivenMesh(ball(), config.reach)
        self.spread = SPREAD * config.half_extent

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups "offset", "table" and "mlp"."""
        return {**self.body.parameter_groups(), **self.paint_groups()}

    def triangles(self) -> Triangles:
        """Return the mesh."""
        return self.body.triangles()

    def become(self, mesh: Mesh) -> None:
        """Become a mesh, vertex for vertex."""
        self.body.become(mesh)

    def take_shape(self, other: Painted, mesh: Mesh) -> None:
        """Go on with given vertices and offsets if the reach is the same, or begin as the mesh is.

        With another reach, vertices may move by that from where they are now.
        """
        if isinstance(other, TexturedMesh) and other.body.reach == self.body.reach:
            self.body.load_state_dict(other.body.state_dict())
        else:
            self.body.become(mesh)

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of the mesh."""
        return self.body.regularisers()


def build(config: Config, generator: torch.Generator | None = None) -> TexturedMesh:
    """Make the representation; `generator` (CPU) draws its initial features."""
    return TexturedMesh(config, generator)
