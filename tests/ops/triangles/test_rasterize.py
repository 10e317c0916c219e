"""Rasterization: what is seen, against rays; that backends are one function; exact gradients."""

import pytest
import torch
from closeness import assert_gradients_agree, assert_values_agree, fast_backends
from triangle_views import cameras, loose_triangles, sphere, to_clip

from dreamlab.core.errors import InputError
from dreamlab.ops.triangles.rasterize import corner_weights, rasterize, triangle_index

BACKENDS = ["reference", "warp"]


def nearest_hits(vertices, tri, origins, directions):
    """Triangle and distance of the first hit of each ray, by trying all (Moeller and Trumbore)."""
    a, b, c = vertices[tri].unbind(dim=1)
    e1, e2 = b - a, c - a
    p = torch.linalg.cross(directions[:, None], e2[None])
    det = (e1 * p).sum(-1)
    s = origins[:, None] - a
    u = (s * p).sum(-1) / det
    q = torch.linalg.cross(s, e1.expand_as(s))
    v = (directions[:, None] * q).sum(-1) / det
    t = (e2 * q).sum(-1) / det
    t = torch.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0), t, torch.inf)
    distance, triangle = t.min(dim=1)
    return torch.where(distance.isfinite(), triangle, -1), distance


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(3))
def test_pixels_see_the_triangle_that_a_ray_meets_first(backend, seed):
    vertices, tri = loose_triangles(150, seed, size=0.8, dtype=torch.float64)
    views = cameras(2)
    size = (23, 31)
    dtype = torch.float32 if backend == "warp" else torch.float64
    pos = to_clip(vertices, views)
    aspect = torch.tensor([size[0] / size[1], 1.0, 1.0, 1.0], dtype=torch.float64)
    seen = triangle_index(rasterize((pos * aspect).to(dtype), tri, size, backend=backend))
    origins, directions = (rays.double().flip(1).reshape(-1, 3) for rays in views.rays(*size))
    expected, _ = nearest_hits(vertices, tri, origins, directions)
    agreement = (seen.flatten() == expected).double().mean()
    assert (expected >= 0).double().mean() > 0.3
    assert agreement > 0.998  # rays in single precision may miss an edge by a hair


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_and_depth_are_those_of_the_point_that_is_seen(backend):
    vertices, tri = loose_triangles(40, dtype=torch.float64)
    pos = to_clip(vertices, cameras(2))
    dtype = torch.float32 if backend == "warp" else torch.float64
    rast = rasterize(pos.to(dtype), tri, (40, 40), backend=backend).double()
    view, row, column = torch.nonzero(triangle_index(rast) >= 0, as_tuple=True)
    seen = rast[view, row, column]
    corners = pos[view[:, None], tri[triangle_index(seen)]]
    point = torch.einsum("nk,nkc->nc", corner_weights(seen), corners)
    ndc = point[:, :3] / point[:, 3:]
    centers = torch.stack([2 * column + 1, 2 * row + 1], dim=1) / 40 - 1
    torch.testing.assert_close(ndc[:, :2], centers.double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(ndc[:, 2], seen[:, 2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_closed_surface_has_no_gaps(backend):
    vertices, tri = sphere(4)
    rast = rasterize(to_clip(vertices * 3.5, cameras(3)), tri, (64, 64), backend=backend)
    assert (rast[..., 3] > 0).all()  # from inside it fills the picture


@pytest.mark.parametrize("backend", BACKENDS)
def test_centres_on_corners_and_edges_are_seen(backend):
    """All corners of a sheet of triangles, each a pixel wide, are pixel centres."""
    size = 16
    row, column = torch.meshgrid(torch.arange(2, 11), torch.arange(3, 15), indexing="ij")
    x, y = (((2 * numbers.flatten() + 1) / size) - 1 for numbers in (column, row))
    pos = torch.stack([x, y, 0 * x, 1 + 0 * x], dim=1)[None]
    corner = torch.arange(9 * 12).view(9, 12)
    a, b, c, d = (
        part.flatten()
        for part in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1])
    )
    tri = torch.cat([torch.stack([a, b, c], dim=1), torch.stack([a, c, d], dim=1)])
    seen = rasterize(pos, tri, (size, size), backend=backend)[0, ..., 3] > 0
    expected = torch.zeros(size, size, dtype=torch.bool)
    expected[2:11, 3:15] = True
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_triangles_that_reach_behind_the_camera_are_seen_before_it(backend):
    # the ground, z = -1, far beyond the camera in all directions: all below the horizon sees it
    corners = torch.tensor([[-90.0, -90.0, -1.0], [90.0, -90.0, -1.0], [0.0, 90.0, -1.0]])
    views = cameras(2, elevation=0.0)
    rast = rasterize(to_clip(corners, views), torch.tensor([[0, 1, 2]]), (40, 40), backend=backend)
    seen = rast[..., 3] > 0
    assert seen[:, :15].all() and not seen[:, 20:].any()


@pytest.mark.parametrize("backend_and_device", fast_backends("rasterize"))
@pytest.mark.parametrize("size", [(33, 20), (64, 64)])
def test_fast_and_reference_agree(backend_and_device, size):
    backend, device = backend_and_device
    for vertices, tri in (sphere(3), loose_triangles(200)):
        pos = to_clip(vertices, cameras(2)).to(device).requires_grad_()
        results = {}
        for name in ("reference", backend):
            rast = rasterize(pos, tri.to(device), size, backend=name)
            upstream = torch.sin(torch.arange(1.0, 1 + rast.numel())).view_as(rast).to(device)
            loss = (rast * upstream)[..., :2].sum()
            results[name] = rast, torch.autograd.grad(loss, pos)[0]
        fast, reference = results[backend], results["reference"]
        same = triangle_index(fast[0]) == triangle_index(reference[0])
        assert same.float().mean() > 0.999
        assert_values_agree(fast[0][same], reference[0][same])
        if same.all():
            assert_gradients_agree(fast[1], reference[1])


def test_reference_gradients_are_exact():
    vertices, tri = loose_triangles(6, dtype=torch.float64)
    pos = to_clip(vertices).requires_grad_()

    def weights(pos):
        return rasterize(pos, tri, (7, 6), backend="reference")[..., :2]

    assert weights(pos).abs().sum() > 0
    assert torch.autograd.gradcheck(weights, pos)


@pytest.mark.parametrize("backend", BACKENDS)
def test_views_do_not_depend_on_each_other(backend):
    vertices, tri = sphere(2)
    pos = to_clip(vertices, cameras(3))
    together = rasterize(pos, tri, (24, 24), backend=backend)
    alone = [rasterize(pos[i : i + 1], tri, (24, 24), backend=backend) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.usefixtures("small_work_is_cut")
def test_two_threads_see_what_one_does():
    vertices, tri = sphere(4)
    pos = to_clip(0.8 * vertices, cameras(2)).requires_grad_()
    seen = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            rast = rasterize(pos, tri, (24, 31), backend="warp")
            upstream = torch.sin(torch.arange(1.0, 1 + rast.numel())).view_as(rast)
            seen[threads] = rast, torch.autograd.grad((rast * upstream)[..., :2].sum(), pos)[0]
        finally:
            torch.set_num_threads(1)
    assert torch.equal(seen[1][0], seen[2][0])
    assert_gradients_agree(seen[2][1], seen[1][1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_and_slivers_are_not_seen(backend):
    pos = to_clip(torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0.5], [1.0, 1, 1]])).requires_grad_()
    for tri in (torch.zeros(0, 3, dtype=torch.int64), torch.tensor([[0, 1, 2], [0, 0, 1]])):
        rast = rasterize(pos, tri, (9, 9), backend=backend)
        assert not rast.any()
        assert not torch.autograd.grad(rast.sum(), pos)[0].any()


def test_wrong_input_is_named():
    pos = torch.zeros(1, 3, 4)
    with pytest.raises(InputError, match="vertices 0 to 3 of 3"):
        rasterize(pos, torch.tensor([[0, 1, 3]]), (4, 4))
    with pytest.raises(InputError, match="at least 1 x 1"):
        rasterize(pos, torch.tensor([[0, 1, 2]]), (0, 4))
    with pytest.raises(InputError, match="float32"):
        rasterize(pos.double(), torch.tensor([[0, 1, 2]]), (4, 4), backend="warp")
