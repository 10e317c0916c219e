"""Deep marching tetrahedra: a signed distance on a tetrahedral grid whose vertices may move.

    x_i = g_i + d tanh(o_i)                      grid vertices, moved by at most d
    mesh = marching tetrahedra of (x, s)         where s < 0 is inside
    albedo: see `painted.py`

Glossary: `s_i` signed distance at a grid vertex, world units; `o_i` offset; `h` spacing of the
grid. Vertices on the border of the cube count as outside, so the mesh is closed.

Every s_i and o_i is a parameter of its own, unless `distance_grid` asks for a field:

    (s_i, o_i) = (b_i, c_i) + W2 relu(W1 e(g_i))     hash-grid features e, W2 = 0 at first

Then neighbours move together and noise in the gradients is averaged; `b`, `c` are what the stage
begins with, an ellipsoid or the object that is taken over, and stay.

Regularisers, each a mean, so that their weights do not depend on the resolution:

    normal_consistency   see `surface_losses.py`
    laplacian            the same, over h^2
    sign_changes         BCE(s_a / h, s_b < 0) + BCE(s_b / h, s_a < 0) over crossed edges (a, b), as
                         logits: it wears off specks and the inside of shells
    eikonal              (|grad s| - 1)^2 over the grid

Source: Shen et al. 2021 (DMTet); Munkberg et al. 2022 (nvdiffrec), sign regulariser; Lin et al.
2023 (Magic3D, parameters of vertices) and Chen et al. 2023 (Fantasia3D, a field) for text to 3D.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.regions import OBJECT, Regions
from dreamlab.core.triangles import Triangles
from dreamlab.ops.hashgrid.encode import HashGridConfig
from dreamlab.ops.triangles.distance import signed_distances
from dreamlab.ops.triangles.tetrahedra import Surface, TetrahedralGrid, marching_tetrahedra
from dreamlab.representations.features import FeatureConfig, HashFeatures
from dreamlab.representations.painted import PaintConfig, Painted
from dreamlab.representations.surface_losses import laplacian, normal_consistency


@dataclass(frozen=True, slots=True)
class Config(PaintConfig):
    """Settings of the tetrahedral grid and of the hash grid that colours it."""

    half_extent: float = 1.0
    """Half the side of the cube that the grid fills, world units."""
    resolution: int = 32
    """Cells along an axis; there are about 2 n^3 vertices and 12 n^3 tetrahedra."""
    radii: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Half axes x, y, z of the ellipsoid to start from, world units."""
    deformation: float = 0.3
    """d, how far a grid vertex may move, in spacings; 0 keeps the grid rigid."""
    distance_grid: HashGridConfig | None = None
    """Hash grid that signed distances and offsets are read from, by a network of `hidden_width`;
    `{}` for the usual one, unset for one parameter a grid vertex."""
    per_object: bool = False
    """Whether each object of a layout has a grid of its own, with these settings, in a frame in
    which its box is where a single object would be; see `representations.composed`."""

    def __post_init__(self) -> None:
        PaintConfig.__post_init__(self)
        if self.half_extent <= 0:
            raise ValueError(f"half_extent must be positive, got {self.half_extent}")
        if self.resolution < 2:
            raise ValueError(f"resolution must be at least 2, got {self.resolution}")
        if not all(0 < radius < self.half_extent for radius in self.radii):
            raise ValueError(
                f"radii must lie between 0 and half_extent ({self.half_extent}), got {self.radii}"
            )
        if not 0 <= self.deformation < 0.5:
            raise ValueError(f"deformation must be in [0, 0.5), got {self.deformation}")


class DistanceField(nn.Module):
    """What is added to signed distances and offsets, from a hash grid; nothing at first."""

    def __init__(
        self, config: FeatureConfig, half_extent: float, generator: torch.Generator | None
    ) -> None:
        """Draw the features; `generator` (CPU) makes that repeatable."""
        super().__init__()
        self.features = HashFeatures(config, half_extent, generator)
        self.layers = self.features.build_network(4, generator)
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Add nothing again."""
        self.layers[1].zero_()

    def forward(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 4"]:
        """Return the changes of s (world units) and of o at world points; differentiable."""
        return self.features.read(self.layers, self.features(points))


class TetrahedralMesh(Painted):
    """A mesh from a tetrahedral grid; satisfies `Shape` and `Representation`.

    Gradients: the mesh to signed distances and offsets, or to the field that they are read from;
    the albedo to the hash grid and to points.
    """

    distance: Tensor
    offset: Tensor

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        """Start from the ellipsoid in mid-grey; `generator` (CPU) draws the features."""
        super().__init__(config, config.half_extent, generator)
        self.config = config
        grid = self._known_grid = TetrahedralGrid(config.resolution, config.half_extent)
        self.spread = grid.spacing / 2
        distance = _ellipsoid(grid.positions, torch.tensor(config.radii))
        offset = torch.zeros(grid.num_vertices, 3)
        self.field: DistanceField | None = None
        if config.distance_grid is None:
            self.distance, self.offset = nn.Parameter(distance), nn.Parameter(offset)
        else:
            self.register_buffer("distance", distance)
            self.register_buffer("offset", offset)
            features = FeatureConfig(
                config.distance_grid, hidden_width=config.hidden_width, backend=config.backend
            )
            self.field = DistanceField(features, config.half_extent, generator)
        self._kept: tuple[object, tuple[Tensor, Surface]] | None = None

    @torch.no_grad()
    def begin_in(self, regions: Regions) -> None:
        """Start from an ellipsoid in each box, stretched as the box is."""
        places = regions.to_local(self.grid.positions)
        radii = regions.half_sizes.new_tensor(self.config.radii) * regions.half_sizes / OBJECT
        bodies = [_ellipsoid(places[:, k], radii[k]) for k in range(len(regions))]
        self.distance.copy_(torch.stack(bodies).amin(dim=0))

    @property
    def grid(self) -> TetrahedralGrid:
        """The grid, on the parameters' device."""
        device = str(self.distance.device)
        if self._known_grid.device != device:
            self._known_grid = replace(self._known_grid, device=device)
        return self._known_grid

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups "distance", "offset", "table" and "mlp".

        A field gives both distances and offsets; all of it is the group "distance".
        """
        if self.field is not None:
            return {"distance": list(self.field.parameters()), **self.paint_groups()}
        assert isinstance(self.distance, nn.Parameter) and isinstance(self.offset, nn.Parameter)
        return {"distance": [self.distance], "offset": [self.offset], **self.paint_groups()}

    def signed_distance(self) -> Float[Tensor, " grid_vertices"]:
        """Return s at the grid's vertices; constant, outside, on the border."""
        return self._closed(self._look()[0])

    def surface(self) -> Surface:
        """Extract the mesh, with the grid edges it crosses."""
        return self._look()[1]

    def _look(self) -> tuple[Float[Tensor, " grid_vertices"], Surface]:
        """Return s, also on the border, and the mesh.

        Renderer and regularisers get the same ones: they are kept until a step begins
        (`set_progress`), a parameter is changed from outside, or a gradient has passed through
        them, which frees their graph. (Fused optimisers do not count the versions of what they
        change.)
        """
        changing = [] if self.field is None else self.field.parameters()
        parts = (self.distance, self.offset, *changing)
        state = (torch.is_grad_enabled(), *((x._version, x.dtype, x.device) for x in parts))
        if self._kept is None or self._kept[0] != state:
            distance, offset = self._values()
            surface = self._extract(distance, offset)
            for tensor in (distance, surface.vertices):
                if tensor.requires_grad and not tensor.is_leaf:
                    tensor.register_hook(self._forget)
            self._kept = (state, (distance, surface))
        return self._kept[1]

    def _values(self) -> tuple[Float[Tensor, " grid_vertices"], Float[Tensor, "grid_vertices 3"]]:
        """Return s, also on the border, and o."""
        if self.field is None:
            return self.distance, self.offset
        change = self.field(self.grid.positions)
        return self.distance + change[:, 0], self.offset + change[:, 1:]

    def _closed(self, distance: Tensor) -> Tensor:
        return distance.where(~self.grid.is_border, self.grid.spacing)

    def _forget(self, _: Tensor) -> None:
        self._kept = None

    def set_progress(self, progress: float) -> None:
        """Open the levels of the hash grid, and extract the surface anew when it is asked for."""
        super().set_progress(progress)
        self._kept = None

    def _extract(self, distance: Tensor, offset: Tensor) -> Surface:
        grid = self.grid
        reach = self.config.deformation * grid.spacing
        positions = grid.positions + reach * offset.tanh()
        return marching_tetrahedra(self._closed(distance), positions, grid)

    def triangles(self) -> Triangles:
        """Extract the mesh."""
        return self.surface()

    @torch.no_grad()
    def become(self, mesh: Mesh) -> None:
        """Take over the signed distance of a mesh.

        Raises:
            InputError: no vertex of the grid is inside of it, so nothing would be left.
        """
        positions = self.grid.positions.cpu().double().numpy()
        distance = torch.from_numpy(signed_distances(mesh, positions))
        if not bool(((distance < 0) & ~self.grid.is_border.cpu()).any()):
            raise InputError(
                f"a tetrahedral grid of {self.config.resolution} cells an axis finds no inside in "
                "this mesh: it is open, faces inwards, or is thinner than the cells.",
                "turn its normals outwards, raise the resolution, or use textured_mesh or "
                "gaussians, which need no inside.",
            )
        self._begin_as(distance, torch.zeros_like(self.offset))

    @torch.no_grad()
    def take_shape(self, other: Painted, mesh: Mesh) -> None:
        """Take over distances and offsets of the same grid, or the signed distance of the mesh."""
        if not isinstance(other, TetrahedralMesh) or self._grid_settings != other._grid_settings:
            self.become(mesh)
            return
        self._begin_as(*other._values())

    def _begin_as(self, distance: Tensor, offset: Tensor) -> None:
        self.distance.copy_(distance)
        self.offset.copy_(offset)
        if self.field is not None:
            self.field.restart()

    @property
    def _grid_settings(self) -> tuple[int, float, float]:
        config = self.config
        return config.resolution, config.half_extent, config.deformation

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of the module docstring; all zero without a surface, but `eikonal`."""
        surface = self.surface()
        eikonal = self._eikonal()
        if len(surface.tri) == 0:
            nothing = eikonal * 0
            names = ("normal_consistency", "laplacian", "sign_changes")
            return {**dict.fromkeys(names, nothing), "eikonal": eikonal}
        spacing = self.grid.spacing
        return {
            "normal_consistency": normal_consistency(surface),
            "laplacian": laplacian(surface) / spacing**2,
            "sign_changes": _sign_changes(self._ends(surface) / spacing),
            "eikonal": eikonal,
        }

    def _ends(self, surface: Surface) -> Float[Tensor, "edges 2"]:
        """Return the signed distances at the ends of crossed edges."""
        return self.signed_distance().index_select(0, surface.edges.flatten()).view(-1, 2)

    def _eikonal(self) -> Float[Tensor, ""]:
        n = self.config.resolution + 1
        corners = self._look()[0][: n**3].reshape(n, n, n)
        slopes = [
            (corners.narrow(axis, 1, n - 1) - corners.narrow(axis, 0, n - 1)) / self.grid.spacing
            for axis in range(3)
        ]
        x, y, z = slopes[0][:, 1:, 1:], slopes[1][1:, :, 1:], slopes[2][1:, 1:, :]
        length = (x.square() + y.square() + z.square() + 1e-12).sqrt()
        return (length - 1).square().mean()


def _ellipsoid(
    points: Float[Tensor, "points 3"], radii: Float[Tensor, "3"]
) -> Float[Tensor, " points"]:
    """Return a signed distance: exact for a ball, else right in sign and order of magnitude."""
    return ((points / radii).norm(dim=1) - 1) * radii.min()


def _sign_changes(ends: Float[Tensor, "edges 2"]) -> Float[Tensor, ""]:
    """Return the loss from the signed distances at the ends of crossed edges, in spacings."""
    a, b = ends.unbind(dim=1)
    is_inside = (ends.detach() < 0).to(ends)
    return binary_cross_entropy_with_logits(-a, is_inside[:, 1]) + (
        binary_cross_entropy_with_logits(-b, is_inside[:, 0])
    )


def build(config: Config, generator: torch.Generator | None = None) -> TetrahedralMesh:
    """Make the representation; `generator` (CPU) draws its initial features."""
    return TetrahedralMesh(config, generator)
