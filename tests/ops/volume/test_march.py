"""Ray marching: where samples lie, and that fast and reference place the same ones."""

import math

import pytest
import torch
from closeness import fast_backends

from dreamlab.core.errors import InputError, MemoryExhaustedError
from dreamlab.ops.volume.march import march

BACKENDS = ["reference", "warp"]


def ball(resolution=32, radius=0.6, half_extent=1.0, center=(0.0, 0.0, 0.0)):
    axis = ((torch.arange(resolution) + 0.5) / resolution * 2 - 1) * half_extent
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    return (grid - torch.tensor(center)).norm(dim=-1) < radius


def rays_around(count=300, distance=3.0, seed=0):
    """Rays from a sphere that aim near the origin, as (origins, unit directions, jitter)."""
    draw = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=draw)
    origins = origins / origins.norm(dim=-1, keepdim=True) * distance
    target = torch.randn(count, 3, generator=draw) * 0.4
    directions = target - origins
    directions = directions / directions.norm(dim=-1, keepdim=True)
    return origins, directions, torch.rand(count, generator=draw)


@pytest.mark.parametrize("backend_and_device", fast_backends("march"))
@pytest.mark.parametrize("half_extent", [1.0, 1.7])
def test_fast_and_reference_place_the_same_samples(backend_and_device, half_extent):
    backend, device = backend_and_device
    binary = ball(half_extent=half_extent, center=(0.2, -0.1, 0.1)).to(device)
    origins, directions, jitter = (x.to(device) for x in rays_around())
    results = [
        march(
            origins,
            directions,
            binary,
            half_extent=half_extent,
            step_size=0.02,
            jitter=jitter,
            backend=name,
        )
        for name in ("reference", backend)
    ]
    # A midpoint within rounding of a cell's wall may fall on either side of it.
    difference = (results[0].offsets.diff() - results[1].offsets.diff()).abs()
    assert difference.max() <= 1
    assert difference.sum() <= 1e-3 * len(results[0])
    same = torch.nonzero(difference == 0)[:, 0].int()
    kept = [samples.keep(torch.isin(samples.ray_index, same)) for samples in results]
    torch.testing.assert_close(kept[0].t_start, kept[1].t_start, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(kept[0].t_end, kept[1].t_end, rtol=1e-5, atol=1e-5)
    assert torch.equal(kept[0].ray_index, kept[1].ray_index)


@pytest.mark.parametrize("backend", BACKENDS)
def test_midpoints_lie_in_occupied_cells_only(backend):
    binary = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(1)) < 0.3
    origins, directions, jitter = rays_around()
    samples = march(
        origins, directions, binary, half_extent=1.0, step_size=0.03, jitter=jitter, backend=backend
    )
    points = samples.points(origins, directions)
    x, y, z = ((points.double() + 1) * 8 - 1e-5).floor().long().clamp(0, 15).unbind(-1)
    u, v, w = ((points.double() + 1) * 8 + 1e-5).floor().long().clamp(0, 15).unbind(-1)
    assert len(samples) > 1000
    assert (binary[x, y, z] | binary[u, v, w]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_cover_the_chord_of_a_ball(backend):
    resolution, radius, step = 128, 0.6, 0.01
    origins, directions, jitter = rays_around()
    samples = march(
        origins,
        directions,
        ball(resolution, radius),
        half_extent=1.0,
        step_size=step,
        jitter=jitter,
        backend=backend,
    )
    covered = samples.offsets.diff() * step
    closest = torch.linalg.cross(origins, directions).norm(dim=-1)
    chord = 2 * (radius**2 - closest**2).clamp(min=0).sqrt()
    away_from_the_rim = (closest < 0.9 * radius) | (closest > 1.05 * radius)
    # A chord through steep walls is off by at most a cell's diagonal over the cosine at each end.
    assert (covered - chord)[away_from_the_rim].abs().max() < 4 * math.sqrt(
        3
    ) * 2 / resolution + step
    assert abs((covered - chord).mean()) < 2e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_strata_of_a_ray_do_not_overlap_and_keep_their_length(backend):
    origins, directions, jitter = rays_around()
    samples = march(
        origins, directions, ball(), half_extent=1.0, step_size=0.02, jitter=jitter, backend=backend
    )
    torch.testing.assert_close(
        samples.t_end - samples.t_start, torch.full_like(samples.t_start, 0.02), rtol=0, atol=1e-6
    )
    same_ray = samples.ray_index[1:] == samples.ray_index[:-1]
    assert (samples.t_start[1:] - samples.t_end[:-1])[same_ray].min() > -1e-6
    counts = torch.bincount(samples.ray_index, minlength=len(origins))
    assert torch.equal(counts.int(), samples.offsets.diff())
    assert (samples.ray_index.diff() >= 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_jitter_makes_sums_unbiased(backend):
    """The sum of t^2 step_size over strata estimates its integral along the ray."""
    count, step = 4000, 0.3
    origins = torch.tensor([[-2.0, 0.1, 0.2]]).repeat(count, 1)
    directions = torch.tensor([[1.0, 0.0, 0.0]]).repeat(count, 1)
    jitter = torch.rand(count, generator=torch.Generator().manual_seed(0))
    samples = march(
        origins,
        directions,
        torch.ones(4, 4, 4, dtype=torch.bool),
        half_extent=1.0,
        step_size=step,
        jitter=jitter,
        backend=backend,
    )
    estimate = (samples.t_mid**2).sum() * step / count
    assert estimate.item() == pytest.approx((27 - 1) / 3, rel=5e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rays_parallel_to_an_axis(backend, axis, sign):
    origins = torch.full((3, 3), 0.3)
    origins[:, axis] = -3 * sign
    origins[1, (axis + 1) % 3] = 1.5  # beside the cube
    directions = torch.zeros(3, 3)
    directions[:, axis] = sign
    directions[2, axis] = -sign  # looks away
    everything = torch.ones(8, 8, 8, dtype=torch.bool)
    samples = march(
        origins, directions, everything, half_extent=1.0, step_size=0.1, backend=backend
    )
    counts = samples.offsets.diff().tolist()
    assert abs(counts[0] - 20) <= 1
    assert counts[1:] == [0, 0]
    assert samples.t_mid.min() >= 2 and samples.t_mid.max() <= 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_rays_from_inside_start_at_their_origin(backend):
    origins = torch.zeros(50, 3) + torch.tensor([0.1, 0.0, -0.2])
    _, directions, jitter = rays_around(50)
    everything = torch.ones(8, 8, 8, dtype=torch.bool)
    samples = march(
        origins,
        directions,
        everything,
        half_extent=1.0,
        step_size=0.05,
        jitter=jitter,
        backend=backend,
    )
    first = samples.t_mid[samples.offsets[:-1].long()]
    assert (first >= 0).all() and (first <= 0.05).all()
    assert samples.points(origins, directions).abs().max() <= 1 + 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_grids_and_no_rays_give_no_samples(backend):
    origins, directions, _ = rays_around(10)
    nothing = torch.zeros(8, 8, 8, dtype=torch.bool)
    samples = march(origins, directions, nothing, half_extent=1.0, step_size=0.1, backend=backend)
    assert len(samples) == 0 and samples.num_rays == 10
    assert samples.points(origins, directions).shape == (0, 3)
    assert samples.offsets.tolist() == [0] * 11
    samples = march(
        origins[:0], directions[:0], ~nothing, half_extent=1.0, step_size=0.1, backend=backend
    )
    assert len(samples) == 0 and samples.num_rays == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_too_many_samples_are_an_error_with_a_fix(backend):
    origins, directions, _ = rays_around(10)
    everything = torch.ones(4, 4, 4, dtype=torch.bool)
    with pytest.raises(MemoryExhaustedError, match="larger step_size"):
        march(
            origins,
            directions,
            everything,
            half_extent=1.0,
            step_size=0.01,
            max_samples=100,
            backend=backend,
        )


def test_keep_selects_samples_and_keeps_rays():
    origins, directions, _ = rays_around(40)
    samples = march(origins, directions, ball(), half_extent=1.0, step_size=0.05)
    mask = torch.rand(len(samples), generator=torch.Generator().manual_seed(2)) < 0.5
    kept = samples.keep(mask)
    assert kept.num_rays == samples.num_rays and len(kept) == int(mask.sum())
    assert torch.equal(kept.t_start, samples.t_start[mask])
    counts = torch.bincount(kept.ray_index, minlength=kept.num_rays)
    assert torch.equal(kept.offsets.diff(), counts.int())
    none = samples.keep(torch.zeros_like(mask))
    assert len(none) == 0 and none.num_rays == samples.num_rays


def test_splitting_over_threads_changes_no_bit():
    origins, directions, jitter = rays_around(3000)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            results.append(
                march(origins, directions, ball(), half_extent=1.0, step_size=0.02, jitter=jitter)
            )
        finally:
            torch.set_num_threads(1)
    assert torch.equal(results[0].t_start, results[1].t_start)
    assert torch.equal(results[0].offsets, results[1].offsets)


@pytest.mark.parametrize(("half_extent", "step_size"), [(1.0, 0.0), (-1.0, 0.1), (math.inf, 0.1)])
def test_sizes_that_are_not_positive_are_refused(half_extent, step_size):
    origins, directions, _ = rays_around(3)
    with pytest.raises(InputError, match="must be positive"):
        march(origins, directions, ball(), half_extent=half_extent, step_size=step_size)


def test_grids_that_are_not_cubes_are_refused():
    origins, directions, _ = rays_around(3)
    grid = torch.ones(4, 4, 5, dtype=torch.bool)
    with pytest.raises(Exception, match=r"grid must be a cube|resolution"):
        march(origins, directions, grid, half_extent=1.0, step_size=0.1)
