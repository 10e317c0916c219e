"""The alignment undoes translations and scalings, and nothing else."""

import numpy as np
import pytest
import trimesh
from shapes import moved, painted, sphere

from dreamlab.core.mesh import Mesh, joined
from dreamlab.evaluation.alignment import align
from dreamlab.evaluation.metrics import silhouette_iou
from dreamlab.evaluation.views import shape_cameras
from dreamlab.priors.toybox.world.captions import parse_prompt
from dreamlab.priors.toybox.world.truth import true_mesh


@pytest.fixture(scope="module")
def duck() -> Mesh:
    return true_mesh(parse_prompt("a yellow duck"), resolution=64)


@pytest.mark.parametrize("scale", [0.4, 2.5])
def test_a_moved_and_scaled_copy_comes_back(duck: Mesh, scale: float) -> None:
    copy = moved(duck, scale, (0.3, -0.2, 0.5))
    found = align(copy, duck, shape_cameras())
    assert found.scale == pytest.approx(1 / scale, rel=0.01)
    np.testing.assert_allclose(found.apply(copy).vertices, duck.vertices, atol=0.01)


def test_a_stray_piece_does_not_lead_it_astray(duck: Mesh) -> None:
    speck = moved(sphere(0.02), 1.0, (1.5, 1.5, 0.5))
    copy = moved(joined([duck, speck]), 0.7, (0.0, 0.1, 0.2))
    found = align(copy, duck, shape_cameras())
    assert found.scale == pytest.approx(1 / 0.7, rel=0.03)


def test_rotations_are_not_undone(duck: Mesh) -> None:
    turned = Mesh(duck.vertices * np.float32([-1, -1, 1]), duck.faces, colors=duck.colors)
    aligned = align(turned, duck, shape_cameras()).apply(turned)
    assert silhouette_iou(aligned, duck, shape_cameras()) < 0.9


def test_it_is_never_worse_than_both_starts() -> None:
    box = painted(trimesh.creation.box(extents=(1.0, 0.3, 0.5)))
    ball = sphere(0.6)
    cameras = shape_cameras()
    aligned = align(box, ball, cameras).apply(box)
    assert silhouette_iou(aligned, ball, cameras) >= silhouette_iou(box, ball, cameras)
