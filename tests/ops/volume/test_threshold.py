import math

import numpy as np
import pytest
import torch
from soft_shapes import SoftShape, ball, octant_color, reference_of, torus, views

from dreamlab.core.errors import InputError
from dreamlab.ops.triangles.isosurface import extract
from dreamlab.ops.triangles.raycast import silhouette
from dreamlab.ops.volume.surface import extract_surface, log_density
from dreamlab.ops.volume.threshold import SilhouetteReference, find_threshold, mean_iou


def disc_reference(radius: float, size: int = 96) -> SilhouetteReference:
    """Views that show exactly the outline of a ball."""
    origins, directions = views().rays(size, size)
    closest = torch.linalg.cross(origins, directions).norm(dim=-1)
    return SilhouetteReference(views(), (closest < radius).float()[..., None])


@pytest.mark.parametrize("radius", [0.35, 0.5, 0.65])
def test_the_isosurface_of_a_soft_ball_has_the_radius_that_was_seen(radius):
    values = SoftShape(ball(0.5), octant_color, softness=0.1).density_grid(64)
    found = find_threshold(values, 1.0, disc_reference(radius))
    mesh = extract_surface(values, found.value, 1.0)
    assert abs(torch.tensor(mesh.vertices).norm(dim=-1).mean() - radius) < 0.012
    assert found.iou > 0.985


def test_the_predicted_iou_is_that_of_the_mesh():
    shape = SoftShape(torus(), octant_color, peak=60, softness=0.03)
    reference = reference_of(shape)
    values = shape.density_grid(80)
    found = find_threshold(values, 1.0, reference)
    mesh = extract_surface(values, found.value, 1.0)
    measured = mean_iou(silhouette(mesh, reference.cameras, 64, 64), reference.mask)
    assert abs(measured - found.iou) < 0.01
    assert measured > 0.96


def test_no_other_threshold_does_noticeably_better():
    shape = SoftShape(torus(), octant_color, peak=60, softness=0.05)
    reference, values = reference_of(shape), shape.density_grid(64)
    found = find_threshold(values, 1.0, reference)
    for factor in (0.2, 0.5, 2.0, 5.0):
        mesh = extract_surface(values, found.value * factor, 1.0)
        other = mean_iou(silhouette(mesh, reference.cameras, 64, 64), reference.mask)
        assert other < found.iou + 0.003


def test_a_hard_edge_is_cut_well_away_from_both_sides():
    values = SoftShape(ball(0.6), octant_color, peak=100, softness=1e-4).density_grid(64)
    found = find_threshold(values, 1.0, disc_reference(0.6))
    assert 1.0 < found.value < 99.0


def test_the_scale_of_the_density_carries_over_to_the_threshold():
    values = SoftShape(ball(0.5), octant_color, softness=0.1).density_grid(48)
    low = find_threshold(values, 1.0, disc_reference(0.5))
    high = find_threshold(values * 1000, 1.0, disc_reference(0.5))
    assert high.value == pytest.approx(1000 * low.value, rel=1e-3)


def test_transparent_renders_are_refused_with_a_fix():
    reference = SilhouetteReference(views(), torch.full((8, 16, 16, 1), 0.3))
    with pytest.raises(InputError, match="nothing to export") as caught:
        find_threshold(torch.ones(16, 16, 16), 1.0, reference)
    assert "steps" in caught.value.fix


def test_an_empty_field_is_refused_with_a_fix():
    with pytest.raises(InputError, match="zero everywhere") as caught:
        find_threshold(torch.zeros(16, 16, 16), 1.0, disc_reference(0.5, 16))
    assert "steps" in caught.value.fix
    corner = torch.zeros(16, 16, 16)
    corner[0, 0, 0] = 1.0
    with pytest.raises(InputError, match="zero wherever") as caught:
        find_threshold(corner, 1.0, disc_reference(0.2, 16))
    assert "resolution" in caught.value.fix


def test_the_isosurface_is_the_one_whose_outline_was_predicted():
    """A hard edge: between the nodes the surface lies where the floor of the logarithm puts it."""
    values = SoftShape(ball(0.5), octant_color, peak=100.0, softness=1e-4).density_grid(24)
    values = torch.where(values > 1e-6, values, 0.0)
    predicted, floor = log_density(values)
    for threshold in (0.01, 1.0, 50.0):
        mesh = extract(predicted, math.log(threshold / floor))
        assert np.array_equal(extract_surface(values, threshold, 1.0).vertices, mesh.vertices)


def test_iou_of_masks():
    a = torch.zeros(2, 4, 4, 1, dtype=torch.bool)
    b = a.clone()
    assert mean_iou(a, b) == 1.0
    a[0, :2], b[0, 1:3] = True, True
    assert mean_iou(a, b) == pytest.approx((1 / 3 + 1) / 2)
