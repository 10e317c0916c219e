import math

import numpy as np
import pytest
import torch
import trimesh
from soft_shapes import SoftShape, ball, octant_color

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.ops.hashgrid.encode import HashGridConfig
from dreamlab.ops.mesh.clean import is_watertight, remove_degenerate
from dreamlab.ops.triangles.isosurface import extract
from dreamlab.ops.volume.surface import LOWEST, closed, extract_surface, log_density, smoothed
from dreamlab.representations.hashgrid import Config, build


def spread(mesh: Mesh, radius: float) -> float:
    """Largest distance of a vertex from the sphere."""
    return float(np.abs(np.linalg.norm(mesh.vertices, axis=1) - radius).max())


def test_an_edge_that_falls_exponentially_is_found_better_than_in_the_density_itself():
    values = SoftShape(ball(0.6), octant_color, peak=1e4, softness=0.01).density_grid(40)
    radius = 0.6 - 0.01 * math.log(20.0 / 1e4)  # far outside, density = peak exp(-distance / s)
    mesh = extract_surface(values, 20.0, 1.0)
    assert spread(mesh, radius) < 0.004
    assert spread(extract(values, 20.0, 1.0), radius) > 0.02
    assert is_watertight(remove_degenerate(mesh))


@pytest.mark.parametrize("activation", ["softplus", "trunc_exp"])
def test_the_surface_of_an_untrained_field_is_a_closed_ball_of_the_wanted_radius(activation):
    config = Config(
        grid=HashGridConfig(num_levels=2, log2_table_size=6, base_resolution=4),
        activation=activation,
        blob_scale=20.0,
        blob_radius=0.5,
    )
    field = build(config, torch.Generator().manual_seed(0))
    with torch.no_grad():
        field.features.table.zero_()
    # the raw density is 20 (1 - r / 0.5), which is 10 at r = 0.25
    threshold = 10.0 if activation == "softplus" else math.exp(10.0)
    mesh = remove_degenerate(extract_surface(field.density_grid(40), threshold, 1.0))
    assert spread(mesh, 0.25) < 5e-3
    assert is_watertight(mesh)
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert solid.volume == pytest.approx(4 / 3 * math.pi * 0.25**3, rel=0.05)


def test_a_node_is_inside_exactly_if_its_density_exceeds_the_threshold():
    values = SoftShape(ball(0.6), octant_color, peak=1e4, softness=0.01).density_grid(40)
    for threshold in (20.0, 0.5 * LOWEST * 1e4):  # the second would lie below the floor
        logarithm, floor = log_density(values, threshold)
        assert torch.equal(logarithm > math.log(threshold / floor), values > threshold)


def test_densities_that_are_not_finite_are_refused():
    values = torch.ones(8, 8, 8)
    for bad in (float("nan"), float("inf")):
        values[1, 2, 3] = bad
        with pytest.raises(InputError, match="not finite"):
            log_density(values)


def test_a_threshold_that_nothing_exceeds_is_refused_with_a_fix():
    with pytest.raises(InputError, match="largest is 1") as caught:
        extract_surface(torch.ones(8, 8, 8), 2.0, 1.0)
    assert "below 1" in caught.value.fix


def test_smoothing_keeps_the_mass_and_closes_gaps() -> None:
    density = torch.zeros(24, 24, 24)
    density[8:16, 8:16, 8:16] = 2.0
    density[12, 12, :] = 0.0  # a pin-hole right through
    blurred = smoothed(density, 1.0)
    torch.testing.assert_close(blurred.sum(), density.sum())
    assert extract_surface(density, 0.5, 1.0).faces.shape[0] > 0
    whole, pierced = (
        trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).euler_number
        for mesh in (extract_surface(blurred, 0.5, 1.0), extract_surface(density, 0.5, 1.0))
    )
    assert (whole, pierced) == (2, 0)


def test_smoothing_is_that_of_a_gaussian() -> None:
    impulse = torch.zeros(15, 15, 15, dtype=torch.float64)
    impulse[7, 7, 7] = 1.0
    blurred = smoothed(impulse, 1.5)
    axis = torch.arange(15, dtype=torch.float64) - 7
    for k in range(3):
        marginal = blurred.sum(dim=[d for d in range(3) if d != k])
        assert (marginal * axis.square()).sum().sqrt().item() == pytest.approx(1.5, rel=0.02)
        torch.testing.assert_close((marginal * axis).sum(), torch.tensor(0.0, dtype=torch.float64))


def test_closing_fills_what_is_narrow_and_leaves_what_is_convex() -> None:
    block = torch.zeros(24, 24, 24)
    block[:16, 8:16, 8:16] = 2.0  # up to the border
    torch.testing.assert_close(closed(block, 2), block, rtol=0, atol=0)
    pierced = block.clone()
    pierced[6:10, 10:14, :] = 0.0  # 4 nodes wide
    torch.testing.assert_close(closed(pierced, 2), block, rtol=0, atol=0)
    wide = block.clone()
    wide[4:9, 9:14, :] = 0.0  # 5 nodes wide
    torch.testing.assert_close(closed(wide, 2), wide, rtol=0, atol=0)


def test_closing_adds_only_and_twice_is_once() -> None:
    density = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(0)).pow(4)
    once = closed(density, 2)
    assert (once >= density).all()
    torch.testing.assert_close(closed(once, 2), once, rtol=0, atol=0)
