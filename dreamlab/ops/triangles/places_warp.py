# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Where in the picture vertices are seen, on Warp kernels.

    column = (x / w + 1) W / 2 - 1/2,   row = (y / w + 1) H / 2 - 1/2,   depth = z / w

in pixel units, centres at integers; all NaN behind the camera. Both rasterizing, for the boxes
around triangles, and antialiasing, for edges, ask for it: six times as many corners as vertices.
"""

from typing import no_type_check

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor

from dreamlab.ops.warp_setup import LIGHT_GRAIN, launch_split

wp.set_module_options({"enable_backward": False})

NEAREST_W = wp.constant(1.0e-6)
"""Vertices of smaller w count as behind the camera."""


@wp.func
@no_type_check
def place_of(v: wp.vec4, height: wp.int32, width: wp.int32):
    """Return column, row and depth of a vertex before the camera."""
    return wp.vec3(
        (v[0] / v[3] + 1.0) * 0.5 * wp.float32(width) - 0.5,
        (v[1] / v[3] + 1.0) * 0.5 * wp.float32(height) - 0.5,
        v[2] / v[3],
    )


@wp.kernel(enable_backward=False)
@no_type_check
def place_kernel(
    start: wp.int32,
    height: wp.int32,
    width: wp.int32,
    pos: wp.array(dtype=wp.vec4),
    places: wp.array(dtype=wp.vec3),
):
    item = start + wp.tid()
    v = pos[item]
    place = wp.vec3(wp.nan, wp.nan, wp.nan)
    if v[3] > NEAREST_W:
        place = place_of(v, height, width)
    places[item] = place


def find_places(
    pos: Float[Tensor, "batch vertices 4"], height: int, width: int
) -> Float[Tensor, "batch vertices 3"]:
    """Return column, row and depth of all vertices; no gradient.

    Args:
        pos: clip space, contiguous, float32.
        height: of the picture, pixels; also `width`.
    """
    places = torch.empty(*pos.shape[:2], 3, dtype=pos.dtype, device=pos.device)
    count = places.shape[0] * places.shape[1]
    inputs = [height, width, pos, places]
    launch_split(place_kernel, count, inputs, pos.device, grain=LIGHT_GRAIN)
    return places
