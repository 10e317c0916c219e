# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Where in the picture vertices are seen, on Warp kernels.

    column = (x / w + 1) W / 2 - 1/2,   row = (y / w + 1) H / 2 - 1/2,   depth = z / w

in pixel units, centres at integers, for vertices before the camera. Rasterizing asks for it, for
the boxes around triangles, and antialiasing, for silhouettes: a vertex has six triangles and six
edges or so, which need not each find it anew.
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
NOWHERE = wp.constant(float("nan"))


@wp.func
@no_type_check
def place_of(v: wp.vec4, height: wp.int32, width: wp.int32):
    """Return column, row and depth of a vertex; NaN behind the camera."""
    w = wp.where(v[3] > NEAREST_W, v[3], NOWHERE)
    return wp.vec3(
        (v[0] / w + 1.0) * 0.5 * wp.float32(width) - 0.5,
        (v[1] / w + 1.0) * 0.5 * wp.float32(height) - 0.5,
        v[2] / w,
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
    vertex = start + wp.tid()
    places[vertex] = place_of(pos[vertex], height, width)


def places_of(
    pos: Float[Tensor, "batch vertices 4"], height: int, width: int
) -> Float[Tensor, "batch vertices 3"]:
    """Return column, row and depth of every vertex in a picture; NaN behind the camera.

    Args:
        pos: clip space, contiguous; nothing is differentiable here.
        height: pixels.
        width: pixels.
    """
    places = torch.empty(*pos.shape[:2], 3, dtype=pos.dtype, device=pos.device)
    count = pos.shape[0] * pos.shape[1]
    launch_split(place_kernel, count, [height, width, pos, places], pos.device, grain=LIGHT_GRAIN)
    return places
