"""Marching tetrahedra on a body-centred grid: from signed distances to a closed mesh, and back.

The cube [-h, h]^3 is cut into n^3 cells. The grid's vertices are the corners and the centres of the
cells. Two neighbouring centres and an edge of the face between them make a tetrahedron, four per
face; a face on the border makes two with its cell's centre. All are nearly regular, and the mirror
images of cells lie on one another, so the surface prefers no direction.

A vertex is inside where its signed distance s < 0. An edge (a, b) with one end inside is crossed at

    x = x_a + t (x_b - x_a),   t = s_a / (s_a - s_b), kept in [m, 1 - m],

and the crossings of a tetrahedron make one triangle or two (tables below). Every crossed edge gives
exactly one vertex, so the mesh is closed where it does not reach the border, has no duplicate
vertices, and is counter-clockwise seen from outside. The margin m keeps the crossings of different
edges apart where a vertex lies on the surface.

Nothing is looked up in a table of the whole grid: signs are compared slice by slice, and an edge is
numbered by its midpoint. So any resolution is ready at once.

Sources: Doi and Koide 1991 (marching tetrahedra); Shen et al. 2021 (DMTet); Labelle and Shewchuk
2007 (body-centred grids).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.triangles import Triangles

MARGIN = 1e-4
"""m, as a share of an edge."""

EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
"""Edges of a tetrahedron by the places of their ends."""
_TRIANGLES: dict[tuple[int, ...], tuple[tuple[int, int, int], ...]] = {
    # inside places -> triangles of edges of a tetrahedron of positive volume
    (0,): ((0, 1, 2),),
    (1,): ((0, 4, 3),),
    (2,): ((5, 1, 3),),
    (3,): ((5, 4, 2),),
    (0, 1): ((1, 2, 4), (1, 4, 3)),
    (0, 2): ((2, 0, 3), (2, 3, 5)),
    (0, 3): ((0, 1, 5), (0, 5, 4)),
}


def case_table() -> Int[Tensor, "16 2 3"]:
    """Return, for the code sum 2^place of the inside places, up to two triangles; -1 for none."""
    table = torch.full((16, 2, 3), -1, dtype=torch.int64)
    for places, triangles in _TRIANGLES.items():
        code = sum(1 << place for place in places)
        for i, triangle in enumerate(triangles):
            table[code, i] = torch.tensor(triangle)
            table[15 - code, i] = torch.tensor(triangle[::-1])
    return table


@dataclass(frozen=True)
class TetrahedralGrid:
    """The grid of the module docstring."""

    resolution: int
    """n, cells along an axis."""
    half_extent: float = 1.0
    """h, world units."""
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.resolution < 2:
            raise InputError(
                f"a tetrahedral grid needs at least 2 cells an axis, got {self.resolution}.",
                "raise the resolution.",
            )

    @property
    def num_corners(self) -> int:
        return (self.resolution + 1) ** 3

    @property
    def num_vertices(self) -> int:
        return self.num_corners + self.resolution**3

    @property
    def spacing(self) -> float:
        """Side of a cell, world units."""
        return 2 * self.half_extent / self.resolution

    @cached_property
    def places(self) -> Int[Tensor, "vertices 3"]:
        """Positions in half cells, from 0 to 2 n: even for corners, odd for centres."""
        n = self.resolution
        lattices = (torch.arange(0, 2 * n + 1, 2), torch.arange(1, 2 * n, 2))
        grids = [torch.cartesian_prod(axis, axis, axis) for axis in lattices]
        return torch.cat(grids).to(self.device)

    @cached_property
    def place_codes(self) -> Int[Tensor, " vertices"]:
        """Places as one integer each, (x side + y) side + z with side = 2 n + 1."""
        x, y, z = self.places.unbind(dim=1)
        side = 2 * self.resolution + 1
        return (x * side + y) * side + z

    @cached_property
    def positions(self) -> Float[Tensor, "vertices 3"]:
        """World positions: first the corners, then the centres, axes in order x, y, z."""
        return self.places * (self.spacing / 2) - self.half_extent

    @cached_property
    def is_border(self) -> Bool[Tensor, " vertices"]:
        """Corners on the faces of the cube; a surface is closed if these are outside."""
        return ((self.places == 0) | (self.places == 2 * self.resolution)).any(dim=1)

    @cached_property
    def is_outermost(self) -> Bool[Tensor, " vertices"]:
        """Vertices of tetrahedra at faces on the border: without them inside, none is crossed."""
        return ((self.places <= 1) | (self.places >= 2 * self.resolution - 1)).any(dim=1)


@dataclass(frozen=True)
class Surface(Triangles):
    """A mesh and the grid edges that its vertices lie on."""

    edges: Int[Tensor, "vertices 2"]
    """Grid vertices at the ends of the crossed edges."""


def marching_tetrahedra(
    distance: Float[Tensor, " grid_vertices"],
    positions: Float[Tensor, "grid_vertices 3"],
    grid: TetrahedralGrid,
) -> Surface:
    """Extract the surface where the signed distance is zero; it may be empty.

    Args:
        distance: s at the grid's vertices, negative inside, in any unit.
        positions: of the grid's vertices, moved by less than half a cell.
        grid: which tetrahedra there are.

    Gradients:
        From the vertices to `distance` and `positions`; which edges are crossed is held fixed.
    """
    is_inside = distance.detach() < 0
    tetrahedra = _at_mixed_faces(is_inside, grid)
    inside = is_inside[tetrahedra].long()
    code = inside[:, 0] + 2 * inside[:, 1] + 4 * inside[:, 2] + 8 * inside[:, 3]
    case = case_table().to(code.device)[code]
    owner, pick = torch.nonzero(case[..., 0] >= 0, as_tuple=True)
    sides = torch.tensor(EDGES, device=code.device)[case[owner, pick]]
    corners = (4 * owner[:, None, None] + sides).flatten()
    first, second = tetrahedra.flatten().index_select(0, corners).view(-1, 2).unbind(dim=1)
    used, tri = torch.unique(_edge_number(first, second, grid), return_inverse=True)
    # any corner of a triangle at a crossing tells its edge
    corner = torch.empty_like(used).scatter_(0, tri, torch.arange(len(tri), device=tri.device))
    first, second = first[corner], second[corner]
    a, b = torch.minimum(first, second), torch.maximum(first, second)
    s_a, s_b = distance.index_select(0, a), distance.index_select(0, b)
    t = (s_a / (s_a - s_b)).clamp(MARGIN, 1 - MARGIN)[:, None]
    x_a, x_b = positions.index_select(0, a), positions.index_select(0, b)
    return Surface(x_a + t * (x_b - x_a), tri.view(-1, 3), torch.stack([a, b], dim=1))


def _edge_number(
    a: Int[Tensor, "*edges"], b: Int[Tensor, "*edges"], grid: TetrahedralGrid
) -> Int[Tensor, "*edges"]:
    """Number edges by their midpoints: m = p_a + p_b is all odd from corner to centre, else even.

    With w = (side^2, side, 1) the number is 2 w . floor(m / 2) + (m odd), which is w . m, less
    side^2 + side where m is odd (side is odd, and so is then w . m).
    """
    side = 2 * grid.resolution + 1
    total = grid.place_codes[a] + grid.place_codes[b]
    return total - (total & 1) * (side * side + side)


def _at_mixed_faces(
    inside: Bool[Tensor, " grid_vertices"], grid: TetrahedralGrid
) -> Int[Tensor, "tetrahedra 4"]:
    """Return the tetrahedra, of positive volume, at the faces that have both signs around them.

    Among them are all that have vertices on both sides, and some that have not.
    """
    n = grid.resolution
    number = torch.arange(grid.num_vertices, device=inside.device)
    kinds = _AT_FACES if bool((inside & grid.is_outermost).any()) else _AT_FACES[:1]
    found: list[list[Tensor]] = [[] for _ in kinds]
    for axis in range(3):
        signs, numbers = (_Slices.of(values, n, axis) for values in (inside, number))
        for rows, (around, _) in zip(found, kinds, strict=True):
            places = _where_they_differ([signs.pick(name) for name in around])
            rows.append(torch.stack([numbers.pick(name)[places] for name in around], dim=1))
    tetrahedra = [
        torch.cat(rows)[:, torch.tensor(corners, device=inside.device)].view(-1, 4)
        for rows, (_, corners) in zip(found, kinds, strict=True)
    ]
    return torch.cat(tetrahedra)


def _where_they_differ(signs: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the places, an index for each axis, where not all of several arrays are the same."""
    first, *others = signs
    differs = torch.zeros_like(first)
    for other in others:
        differs |= first ^ other
    return torch.nonzero(differs, as_tuple=True)


_Corners = tuple[int, int, int, int]
_AT_FACES: tuple[tuple[tuple[str, ...], tuple[_Corners, ...]], ...] = (
    # between the centres on the two sides of a face, around it
    (
        ("below", "above", "inner 0", "inner 1", "inner 2", "inner 3"),
        ((0, 1, 2, 3), (0, 1, 3, 4), (0, 1, 4, 5), (0, 1, 5, 2)),
    ),
    # between a face on the border and the centre of its cell
    (("first", "low 0", "low 1", "low 2", "low 3"), ((0, 1, 3, 2), (0, 1, 4, 3))),
    (("last", "high 0", "high 1", "high 2", "high 3"), ((0, 1, 2, 3), (0, 1, 3, 4))),
)
"""Vertices around a face across an axis, by the names of `_Slices.pick`, and which of them are the
corners of its tetrahedra."""


@dataclass(frozen=True)
class _Slices:
    """Values of the grid's vertices, x, y, z, as seen along an axis."""

    axis: int
    centers: Tensor
    ring: list[Tensor]
    """The four corners of all faces across the axis, counter-clockwise about it."""

    @classmethod
    def of(cls, values: Tensor, n: int, axis: int) -> "_Slices":
        corners, centers = values.split([(n + 1) ** 3, n**3])
        corners = corners.view(n + 1, n + 1, n + 1)
        second, third = (axis + 1) % 3, (axis + 2) % 3
        around = ((0, 0), (1, 0), (1, 1), (0, 1))
        ring = [corners.narrow(second, b, n).narrow(third, c, n) for b, c in around]
        return cls(axis, centers.view(n, n, n), ring)

    def pick(self, name: str) -> Tensor:
        n = len(self.centers)
        centers = {"below": (0, n - 1), "above": (1, n - 1), "first": (0, 1), "last": (n - 1, 1)}
        if name in centers:
            return self.centers.narrow(self.axis, *centers[name])
        faces, corner = name.split()
        first, count = {"inner": (1, n - 1), "low": (0, 1), "high": (n, 1)}[faces]
        return self.ring[int(corner)].narrow(self.axis, first, count)
