"""Corner numbers of triangles as kernels read them: 32 bits each, none of a vertex that is not.

All calls of a step are told the same triangles, and a mesh that only moves is told them in every
step. So what is found of them is kept as long as they are, and found anew if they were written to.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from dreamlab.core.errors import InputError


@dataclass(frozen=True, slots=True)
class _Found:
    version: int
    """How often the triangles had been written to."""
    least: int
    greatest: int
    copy: Tensor | None
    """Their numbers in 32 bits; none where they are stored so: nothing here may keep them."""


_found = WeakTensorKeyDictionary()


def corner_numbers(
    tri: Int[Tensor, "triangles 3"], num_vertices: int
) -> Int[Tensor, "triangles 3"]:
    """Return the triangles as 32-bit integers, contiguous.

    Raises:
        InputError: a corner is not in [0, num_vertices).
    """
    if len(tri) == 0:
        return tri.int().contiguous()
    found = _look_up(tri)
    if not 0 <= found.least <= found.greatest < num_vertices:
        raise InputError(
            f"triangles name vertices {found.least} to {found.greatest} of {num_vertices}.",
            "check the faces of the mesh.",
        )
    return tri if found.copy is None else found.copy


def _look_up(tri: Tensor) -> _Found:
    if tri.is_inference():  # such tensors do not count how often they are written to
        return _find(tri, version=0)
    found = _found.get(tri)
    if found is None or found.version != tri._version:
        found = _found[tri] = _find(tri, tri._version)
    return found


def _find(tri: Tensor, version: int) -> _Found:
    least, greatest = torch.stack(tri.aminmax()).tolist()
    numbers = tri.int().contiguous()
    return _Found(version, least, greatest, None if numbers is tri else numbers)
