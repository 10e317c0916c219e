"""Which triangle every pixel centre sees, where on it, and how deep.

Glossary: `pos` clip-space positions (x, y, z, w); `tri` corner numbers of triangles; `rast` what a
pixel sees, (b0, b1, z / w, 1 + triangle), all zero where it sees none; b0, b1, b2 = 1 - b0 - b1 are
the perspective-correct barycentric weights of the corners in the order of their row of `tri`.

With the pixel's centre at X = (2 j + 1) / W - 1, Y = (2 i + 1) / H - 1 and the corners moved there,

    p_k = (x_k - X w_k, y_k - Y w_k)
    e_0 = p_1 x p_2,   e_1 = p_2 x p_0,   e_2 = p_0 x p_1,   b_k = e_k / (e_0 + e_1 + e_2).

The centre lies in the triangle if the e_k share a sign and w = sum b_k w_k > 0; it is seen if
|z| <= w there and nothing seen there has a smaller z / w (of equals, the first triangle). Corners
behind the camera need no clipping. Both sides of a triangle are seen. An edge is evaluated from its
corner of lower number, so that two triangles that share it leave no gap.

Conventions are those of nvdiffrast, so that it can take the place of the other backends: row 0 is
the lowest Y. Who wants the top row first negates y in `pos`.

Source: Olano and Greer 1997, "Triangle scan conversion using 2D homogeneous coordinates".
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.ops.backends import Backend, resolve
from dreamlab.ops.triangles.corners import corner_numbers

MAX_TRIANGLES = 2**24
"""Triangle numbers travel as single-precision floats."""


def rasterize(
    pos: Float[Tensor, "batch vertices 4"],
    tri: Int[Tensor, "triangles 3"],
    resolution: tuple[int, int],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "batch height width 4"]:
    """Return what every pixel centre sees; see the module docstring.

    Args:
        pos: clip space, one row of vertices per view.
        tri: the same triangles for all views.
        resolution: (height, width), pixels.
        backend: `warp` (float32), `reference`, or `nvdiffrast` (float32, CUDA).

    Raises:
        InputError: too many triangles, a corner number out of range, or no pixel.

    Gradients:
        From b0 and b1 to x, y and w of `pos`; none from z / w and the triangle number. Which
        triangle is seen is held fixed: `antialias` accounts for that.
    """
    name = resolve("rasterize", backend, pos.device)
    if min(resolution) < 1:
        raise InputError(f"resolution must be at least 1 x 1, got {resolution}.", "raise it.")
    if len(tri) >= MAX_TRIANGLES:
        raise InputError(
            f"got {len(tri)} triangles; at most {MAX_TRIANGLES - 1} can be told apart.",
            "simplify the mesh.",
        )
    numbers = corner_numbers(tri, pos.shape[1])
    if name == "reference":
        from dreamlab.ops.triangles.rasterize_reference import rasterize as implementation
    elif name == "warp":
        from dreamlab.ops.triangles.rasterize_warp import rasterize as implementation
    else:
        from dreamlab.ops.triangles.nvdiffrast import rasterize as implementation
    return implementation(pos, numbers, resolution)


def triangle_index(rast: Float[Tensor, "*pixels 4"]) -> Int[Tensor, "*pixels"]:
    """Return the triangle of every pixel, -1 where there is none."""
    return rast[..., 3].long() - 1


def corner_weights(rast: Float[Tensor, "*pixels 4"]) -> Float[Tensor, "*pixels 3"]:
    """Return (b0, b1, b2)."""
    first, second = rast[..., 0], rast[..., 1]
    return torch.stack([first, second, 1 - first - second], dim=-1)
