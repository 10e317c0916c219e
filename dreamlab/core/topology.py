"""Edges of triangles and what lies across them.

Glossary: an edge's *opposite* corners are the third corners of the triangles at the edge; an edge
of one triangle has one, one of a closed surface has two.
"""

from dataclasses import dataclass

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


def build_topology(tri: Int[Tensor, "triangles 3"]) -> Topology:
    """Find the edges of triangles; of more than two triangles at an edge two are kept."""
    tri = tri.long()
    count = len(tri)
    ends = torch.cat([tri[:, [1, 2]], tri[:, [2, 0]], tri[:, [0, 1]]])
    low, high = torch.minimum(*ends.unbind(dim=1)), torch.maximum(*ends.unbind(dim=1))
    # one integer per edge, so that a plain sort brings the sides of an edge together
    keys, order = torch.sort((low << 32) | high, stable=True)
    is_first = torch.ones_like(keys, dtype=torch.bool)
    is_first[1:] = keys[1:] != keys[:-1]
    first = torch.nonzero(is_first)[:, 0]
    second = (first + 1).clamp(max=max(len(keys) - 1, 0))
    has_second = (second != first) & ~is_first[second]
    third = tri.t().reshape(-1)[order]  # side k of `ends` lies across corner k
    owner = order % max(count, 1)
    return Topology(
        torch.stack([low[order[first]], high[order[first]]], dim=1),
        torch.stack([third[first], torch.where(has_second, third[second], -1)], dim=1),
        torch.stack([owner[first], torch.where(has_second, owner[second], -1)], dim=1),
    )
