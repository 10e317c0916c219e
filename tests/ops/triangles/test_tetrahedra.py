"""Marching tetrahedra: topology, position, gradients, and the plain definition."""

import math
from itertools import combinations

import pytest
import torch

from dreamlab.core.errors import InputError
from dreamlab.core.topology import build_topology
from dreamlab.ops.triangles.tetrahedra import Surface, TetrahedralGrid, marching_tetrahedra
from dreamlab.ops.triangles.tetrahedra_reference import all_tetrahedra
from dreamlab.ops.triangles.tetrahedra_reference import marching_tetrahedra as by_definition


def ball(points, radius=0.6, middle=(0.0, 0.0, 0.0)):
    return (points - torch.tensor(middle).to(points)).norm(dim=1) - radius


def ring(points):
    across = (points[:, :2].norm(dim=1) - 0.55).square() + points[:, 2].square()
    return across.sqrt() - 0.22


def two_balls(points):
    """Touching in the origin, which is a vertex of the grid."""
    return torch.minimum(ball(points, 0.4, (0.4, 0, 0)), ball(points, 0.4, (-0.4, 0, 0)))


SHAPES = {"ball": (ball, 2), "ring": (ring, 0), "two balls": (two_balls, None)}
"""Signed distance and Euler characteristic."""


def extract(shape, n=17, dtype=torch.float64):
    grid = TetrahedralGrid(n)
    positions = grid.positions.to(dtype)
    return marching_tetrahedra(shape(positions), positions, grid)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_tetrahedra_fill_the_cube_once(n):
    grid = TetrahedralGrid(n, half_extent=0.75)
    tetrahedra = all_tetrahedra(grid)
    assert grid.positions.shape == (grid.num_vertices, 3) == ((n + 1) ** 3 + n**3, 3)
    a, b, c, d = grid.positions[tetrahedra].unbind(dim=1)
    volumes = (torch.linalg.cross(b - a, c - a) * (d - a)).sum(dim=1) / 6
    assert volumes.min() > 0
    assert volumes.sum().item() == pytest.approx(1.5**3, rel=1e-5)
    assert len(tetrahedra) == 12 * n**3


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("n", [8, 17])
def test_surfaces_are_closed_oriented_and_of_the_right_genus(name, n):
    shape, euler = SHAPES[name]
    surface = extract(shape, n)
    topology = build_topology(surface.tri)
    assert (topology.opposite >= 0).all()
    sides = torch.cat([surface.tri[:, [0, 1]], surface.tri[:, [1, 2]], surface.tri[:, [2, 0]]])
    # each side is walked once in each direction
    assert len(torch.unique(sides, dim=0)) == len(sides) == 2 * len(topology.edges)
    assert len(torch.unique(surface.vertices, dim=0)) == len(surface.vertices)
    assert len(torch.unique(surface.tri)) == len(surface.vertices)
    if euler is not None:
        assert len(surface.vertices) - len(topology.edges) + len(surface.tri) == euler
    a, b, c = surface.vertices[surface.tri].unbind(dim=1)
    volume = (torch.linalg.cross(a, b) * c).sum() / 6
    assert volume > 0  # counter-clockwise seen from outside


def euler_of_inside(distance, grid):
    """Euler characteristic of what the grid's simplices with all corners inside make up.

    The solid below zero of the linear interpolation shrinks to them.
    """
    tetrahedra = all_tetrahedra(grid)
    within = tetrahedra[(distance < 0)[tetrahedra].any(dim=1)].sort(dim=1).values
    total = 0
    for count in range(1, 5):
        rows = torch.cat([within[:, list(corners)] for corners in combinations(range(4), count)])
        rows = rows[(distance < 0)[rows].all(dim=1)]
        total += (-1) ** (count - 1) * len(torch.unique(rows, dim=0))
    return total


@pytest.mark.parametrize("name", [*SHAPES, "noise"])
@pytest.mark.parametrize("n", [6, 9])
def test_the_genus_is_that_of_what_is_inside_on_the_grid(name, n):
    """Touching balls are joined or not as their samples say; a closed surface has twice that."""
    grid = TetrahedralGrid(n)
    if name == "noise":
        draw = torch.Generator().manual_seed(n)
        distance = torch.randn(grid.num_vertices, generator=draw).where(~grid.is_border, 1.0)
    else:
        distance = SHAPES[name][0](grid.positions)
    surface = marching_tetrahedra(distance, grid.positions, grid)
    edges = build_topology(surface.tri).edges
    euler = len(surface.vertices) - len(edges) + len(surface.tri)
    assert euler == 2 * euler_of_inside(distance, grid)
    assert SHAPES.get(name, (None, None))[1] in (euler, None)


def test_a_sphere_has_its_volume_and_distance():
    surface = extract(ball, 24)
    assert ball(surface.vertices).abs().max() < 2e-3
    a, b, c = surface.vertices[surface.tri].unbind(dim=1)
    volume = (torch.linalg.cross(a, b) * c).sum() / 6
    assert volume.item() == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=5e-3)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("n", [2, 5])
def test_it_is_what_the_definition_says(n, device):
    grid = TetrahedralGrid(n)
    draw = torch.Generator().manual_seed(n)
    distance = torch.randn(grid.num_vertices, generator=draw)
    positions = grid.positions + 0.1 * grid.spacing * torch.randn(
        grid.num_vertices, 3, generator=draw
    )
    there = TetrahedralGrid(n, device=device)
    found = marching_tetrahedra(distance.to(device), positions.to(device), there)
    fast = Surface(found.vertices.cpu(), found.tri.cpu(), found.edges.cpu())
    slow = by_definition(distance, positions, all_tetrahedra(grid))

    def soup(surface):
        corners = surface.vertices[surface.tri]
        # triangles from their first corner in lexicographic order
        first = (corners * torch.tensor([1e6, 1e3, 1.0])).sum(-1).argmin(dim=1)
        turned = torch.stack(
            [corners[torch.arange(len(corners)), (first + i) % 3] for i in range(3)], 1
        )
        return {tuple(round(x, 5) for x in row) for row in turned.reshape(-1, 9).tolist()}

    assert len(fast.tri) == len(slow.tri) and len(fast.vertices) == len(slow.vertices)
    assert soup(fast) == soup(slow)
    signs = distance[fast.edges] < 0
    assert (signs[:, 0] != signs[:, 1]).all()


def test_gradients_are_exact():
    grid = TetrahedralGrid(2)
    draw = torch.Generator().manual_seed(3)
    distance = torch.randn(grid.num_vertices, generator=draw, dtype=torch.float64)
    distance = (distance.sign() * (0.2 + distance.abs())).requires_grad_()
    positions = grid.positions.double().requires_grad_()

    def vertices(distance, positions):
        return marching_tetrahedra(distance, positions, grid).vertices

    assert torch.autograd.gradcheck(vertices, (distance, positions))


def test_a_grid_vertex_on_the_surface_keeps_vertices_apart():
    grid = TetrahedralGrid(4)
    distance = grid.positions.abs().amax(dim=1) - 0.5  # faces through corners
    assert (distance == 0).any()
    surface = marching_tetrahedra(distance, grid.positions, grid)
    assert len(torch.unique(surface.vertices, dim=0)) == len(surface.vertices)
    assert (build_topology(surface.tri).opposite >= 0).all()


def test_nothing_inside_gives_an_empty_mesh():
    grid = TetrahedralGrid(3)
    for distance in (torch.ones(grid.num_vertices), -torch.ones(grid.num_vertices)):
        surface = marching_tetrahedra(distance, grid.positions, grid)
        assert len(surface.tri) == len(surface.vertices) == 0


def test_border_vertices_and_small_grids():
    grid = TetrahedralGrid(3, half_extent=2.0)
    expected = (grid.positions.abs().amax(dim=1) - 2).abs() < 1e-6
    assert torch.equal(grid.is_border, expected)
    with pytest.raises(InputError, match="at least 2 cells"):
        TetrahedralGrid(1)
