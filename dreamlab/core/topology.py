"""Edges of triangles and what lies across them.

Glossary: an edge's *opposite* corners are the third corners of the triangles at the edge; an edge
of one triangle has one, one of a closed surface has two.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Topology:
    """The edges of triangles, each named once; depends on `tri` alone, so it can be kept."""

    edges: Int[Tensor, "edges 2"]
    """Corner numbers, the lower one first."""
    opposite: Int[Tensor, "edges 2"]
    """Third corners of the first two triangles at an edge; -1 where there is no second one."""
    triangles: Int[Tensor, "edges 2"]
    """These triangles; -1 likewise."""

    @cached_property
    def corners(self) -> Int[Tensor, "edges 4"]:
        """Ends and opposite corners of the edges, 32 bits each, as kernels read them."""
        return torch.cat([self.edges, self.opposite], dim=1).int()


def build_topology(tri: Int[Tensor, "triangles 3"]) -> Topology:
    """Find the edges of triangles; of more than two triangles at an edge two are kept."""
    count = len(tri)
    corners = tri.long().t().contiguous()
    # side k lies across corner k
    start, end = corners.roll(-1, 0).flatten(), corners.roll(-2, 0).flatten()
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    # one integer per edge, so that a plain sort brings the sides of an edge together
    keys, order = torch.sort(_edge_keys(low, high), stable=True)
    is_first = torch.ones_like(keys, dtype=torch.bool)
    is_first[1:] = keys[1:] != keys[:-1]
    first = torch.nonzero(is_first)[:, 0]
    second = (first + 1).clamp(max=max(len(keys) - 1, 0))
    has_second = (second != first) & ~is_first[second]
    first, second = order[first], order[second]
    third, period = corners.flatten(), max(count, 1)
    return Topology(
        torch.stack([low[first], high[first]], dim=1),
        torch.stack([third[first], third[second].where(has_second, -1)], dim=1),
        torch.stack([first % period, (second % period).where(has_second, -1)], dim=1),
    )


def _edge_keys(low: Int[Tensor, " sides"], high: Int[Tensor, " sides"]) -> Int[Tensor, " sides"]:
    """Return an integer for each side, the same where both ends are the same.

    Of 32 bits where that is enough, since these are sorted in half the time.
    """
    num_vertices = int(high.max()) + 1 if len(high) else 0
    keys = low * num_vertices + high
    return keys.int() if num_vertices**2 < 2**31 else keys
