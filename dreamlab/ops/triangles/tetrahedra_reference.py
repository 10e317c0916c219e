"""Marching tetrahedra over any list of tetrahedra, with unique rows: slow, and plainly right.

Formulas and names are those of `dreamlab.ops.triangles.tetrahedra`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.ops.triangles.tetrahedra import EDGES, MARGIN, Surface, TetrahedralGrid, case_table


def marching_tetrahedra(
    distance: Float[Tensor, " vertices"],
    positions: Float[Tensor, "vertices 3"],
    tetrahedra: Int[Tensor, "tetrahedra 4"],
) -> Surface:
    """Extract the surface; see `dreamlab.ops.triangles.tetrahedra.marching_tetrahedra`."""
    inside = distance[tetrahedra] < 0
    code = (inside * torch.tensor([1, 2, 4, 8])).sum(dim=1)
    sides = case_table()[code]
    owner, pick = torch.nonzero(sides[..., 0] >= 0, as_tuple=True)
    named = tetrahedra[:, torch.tensor(EDGES)][owner[:, None], sides[owner, pick]]
    ends, tri = torch.unique(named.reshape(-1, 2).sort(dim=1).values, dim=0, return_inverse=True)
    a, b = ends.unbind(dim=1)
    t = (distance[a] / (distance[a] - distance[b])).clamp(MARGIN, 1 - MARGIN)[:, None]
    return Surface(positions[a] + t * (positions[b] - positions[a]), tri.reshape(-1, 3), ends)


def all_tetrahedra(grid: TetrahedralGrid) -> Int[Tensor, "tetrahedra 4"]:
    """List the tetrahedra of a grid, each of positive volume, by the definition of the grid."""
    n = grid.resolution
    number = {tuple(place): i for i, place in enumerate(grid.places.tolist())}
    centers = [place for place in number if place[0] % 2]
    found = []
    for center in centers:
        for axis in range(3):
            b, c = (axis + 1) % 3, (axis + 2) % 3
            for side in (-1, 1):
                ring = []
                for db, dc in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                    corner = list(center)
                    corner[axis] += side
                    corner[b] += db
                    corner[c] += dc
                    ring.append(number[tuple(corner)])
                beyond = list(center)
                beyond[axis] += 2 * side
                first = number[center]
                if not 0 <= beyond[axis] <= 2 * n:
                    found += [
                        (first, ring[0], ring[1], ring[2]),
                        (first, ring[0], ring[2], ring[3]),
                    ]
                elif side == 1:
                    second = number[tuple(beyond)]
                    found += [(first, second, ring[m], ring[m - 3]) for m in range(4)]
    tetrahedra = torch.tensor(found)
    a, b, c, d = grid.positions[tetrahedra].unbind(dim=1)
    volume = (torch.linalg.cross(b - a, c - a) * (d - a)).sum(dim=1)
    swapped = tetrahedra[:, [0, 2, 1, 3]]
    return torch.where((volume > 0)[:, None], tetrahedra, swapped)
