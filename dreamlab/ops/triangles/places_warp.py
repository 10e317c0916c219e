# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Where in the picture vertices are seen, on Warp kernels.

    column = (x / w + 1) W / 2 - 1/2,   row = (y / w + 1) H / 2 - 1/2,   depth = z / w

in pixel units, centres at integers, for vertices before the camera. Rasterizing asks for it, for
the boxes around triangles, and antialiasing, for silhouettes.
"""

from typing import no_type_check

import warp as wp

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
