"""Fewer triangles, same shape: quadric error metrics (Garland and Heckbert 1997).

The work is done by the `fast-simplification` package. It comes before the unwrap, whose time grows
faster than the number of triangles.
"""

import numpy as np

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.ops.mesh.clean import remove_degenerate
from dreamlab.ops.mesh.settings import MIN_FACES


def simplify(mesh: Mesh, max_faces: int) -> Mesh:
    """Collapse edges until at most `max_faces` triangles are left; a smaller mesh is unchanged.

    Args:
        mesh: without paint.
        max_faces: budget.

    Raises:
        InputError: the budget is below `MIN_FACES`, or cannot be reached.
    """
    if max_faces < MIN_FACES:
        raise InputError(
            f"the face budget is {max_faces}, at least {MIN_FACES} are needed.",
            "raise max_faces.",
        )
    if len(mesh.faces) <= max_faces:
        return mesh
    import fast_simplification

    vertices, faces, *_ = fast_simplification.simplify(
        np.ascontiguousarray(mesh.vertices, np.float64),
        np.ascontiguousarray(mesh.faces, np.int32),
        target_count=max_faces,
    )
    simple = remove_degenerate(Mesh(vertices.astype(np.float32), faces.astype(np.int64)))
    if len(simple.faces) > max_faces:
        raise InputError(
            f"the mesh cannot be reduced to {max_faces} faces; {len(simple.faces)} were reached.",
            "raise max_faces, or lower the resolution that the mesh is extracted at.",
        )
    return simple
