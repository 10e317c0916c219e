import numpy as np
import pytest
from soft_shapes import SoftShape, octant_color, statue, torus, views

from dreamlab.core.errors import InputError
from dreamlab.ops.mesh.clean import is_watertight, remove_degenerate
from dreamlab.ops.mesh.simplify import simplify
from dreamlab.ops.triangles.raycast import silhouette
from dreamlab.ops.volume.threshold import mean_iou


@pytest.mark.parametrize("distance", [torus(), statue()], ids=["torus", "statue"])
@pytest.mark.parametrize("budget", [500, 2000, 10_000])
def test_the_budget_is_kept_and_so_is_the_outline(distance, budget):
    mesh = remove_degenerate(SoftShape(distance, octant_color).surface(200.0, 72))
    assert len(mesh.faces) > 10_000
    small = simplify(mesh, budget)
    assert 0.9 * budget < len(small.faces) <= budget
    before, after = (silhouette(m, views(), 128, 128) for m in (mesh, small))
    assert mean_iou(before, after) >= 0.98
    assert is_watertight(small)


def test_a_mesh_within_the_budget_is_returned_as_it_is():
    mesh = SoftShape(torus(), octant_color).surface(200.0, 24)
    assert simplify(mesh, 100_000) is mesh


def test_no_degenerate_triangle_is_left():
    mesh = simplify(SoftShape(statue(), octant_color).surface(200.0, 64), 3000)
    assert mesh.face_areas.min() > 1e-9
    assert len(np.unique(mesh.faces)) == len(mesh.vertices)


def test_a_budget_too_small_for_any_object_is_refused():
    with pytest.raises(InputError, match="face budget"):
        simplify(SoftShape(torus(), octant_color).surface(200.0, 24), 20)
