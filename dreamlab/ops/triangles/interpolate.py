"""Values at vertices, carried to the pixels that see their triangles.

    value(pixel) = b_0 a_0 + b_1 a_1 + b_2 a_2,   0 where no triangle is seen,

with the weights b and triangle of `rasterize` and the values a of the triangle's corners.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.ops.backends import Backend, resolve
from dreamlab.ops.triangles.corners import corner_numbers
from dreamlab.ops.triangles.rasterize import corner_weights, triangle_index


def interpolate(
    attr: Float[Tensor, "vertices channels"] | Float[Tensor, "sets vertices channels"],
    rast: Float[Tensor, "batch height width 4"],
    tri: Int[Tensor, "triangles 3"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "batch height width channels"]:
    """Interpolate attributes of vertices; see the module docstring.

    Args:
        attr: the same for all views, or one set per view.
        rast: of `rasterize`.
        tri: the triangles `rast` was made with.
        backend: `warp` (float32), `reference`, or `nvdiffrast` (float32, CUDA).

    Raises:
        InputError: `attr` has another batch size than `rast`, or a corner number is out of range.

    Gradients:
        To `attr` and to b_0, b_1 of `rast`.
    """
    name = resolve("interpolate", backend, attr.device)
    if attr.ndim == 3 and len(attr) != len(rast):
        raise InputError(
            f"attributes of {len(attr)} views cannot be seen in {len(rast)} views.",
            "give one set of attributes per view, or [vertices, channels] for all.",
        )
    numbers = corner_numbers(tri, attr.shape[-2])
    if name == "reference":
        return _interpolate(attr, rast, tri.long())
    if name == "warp":
        from dreamlab.ops.triangles.interpolate_warp import interpolate as implementation
    else:
        from dreamlab.ops.triangles.nvdiffrast import interpolate as implementation
    return implementation(attr, rast, numbers)


def _interpolate(attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
    index = triangle_index(rast)
    view, row, column = torch.nonzero(index >= 0, as_tuple=True)
    corners = tri[index[view, row, column]]
    values = attr[corners] if attr.ndim == 2 else attr[view[:, None], corners]
    weights = corner_weights(rast[view, row, column])
    seen = torch.einsum("nk,nkc->nc", weights, values)
    picture = attr.new_zeros(*rast.shape[:3], attr.shape[-1])
    return picture.index_put((view, row, column), seen)
