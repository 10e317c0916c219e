"""Silhouettes: the covered area and its derivatives, against geometry and finite differences."""

import math

import pytest
import torch
from closeness import assert_gradients_agree, assert_values_agree, fast_backends
from triangle_views import DISTANCE, FOCAL, cameras, loose_triangles, sphere, to_clip

from dreamlab.core.errors import InputError
from dreamlab.core.topology import build_topology
from dreamlab.core.triangles import Triangles
from dreamlab.ops.triangles.antialias import antialias
from dreamlab.ops.triangles.rasterize import rasterize

BACKENDS = ["reference", "warp"]


def coverage(pos, tri, size, backend="auto"):
    """Antialiased picture of what is covered."""
    rast = rasterize(pos, tri, (size, size), backend=backend)
    alpha = (rast[..., 3:] > 0).to(pos.dtype)
    return antialias(alpha, rast, pos, tri, backend=backend)


def disc_area(radius, size):
    """Pixels that a ball in the middle of the picture covers, and the derivative to its radius."""
    focal = FOCAL * size / 2
    area = math.pi * focal**2 * radius**2 / (DISTANCE**2 - radius**2)
    return area, 2 * area * DISTANCE**2 / (radius * (DISTANCE**2 - radius**2))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("subdivisions", "size"), [(3, 32), (5, 32), (3, 128), (5, 128)])
def test_area_and_growth_of_a_sphere_are_those_of_its_disc(backend, subdivisions, size):
    """Triangles are from far larger to far smaller than pixels."""
    vertices, tri = sphere(subdivisions)
    # an icosphere lies inside its sphere: the ball of the same mean radius is what to compare with
    shrink = {3: 0.9965, 5: 0.9998}[subdivisions]
    areas, growths = [], []
    for radius in torch.linspace(0.5, 0.8, 9).tolist():
        r = torch.tensor(radius, requires_grad=True)
        covered = coverage(to_clip(vertices * r), tri, size, backend).sum()
        area, growth = disc_area(radius * shrink, size)
        areas.append(covered.item() / area)
        growths.append(torch.autograd.grad(covered, r)[0].item() / growth)
    assert torch.tensor(areas).mean() == pytest.approx(1, abs=0.005)
    assert torch.tensor(growths).mean() == pytest.approx(1, abs=0.03)
    assert all(abs(growth - 1) < 0.12 for growth in growths)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("direction", [(0.0, 1.0, 0.0), (0.3, -0.5, 0.8)])
def test_a_moving_edge_sweeps_over_pixels_as_finite_differences_say(backend, direction):
    """Weighted coverage of a sphere: motion shifts weight from one side to the other."""
    vertices, tri = sphere(4, torch.float32 if backend == "warp" else torch.float64)
    weight = torch.linspace(0, 1, 96).to(vertices)[None, None, :, None]
    weight = weight + torch.linspace(0, 0.6, 96).to(vertices)[None, :, None, None] ** 2
    move = torch.tensor(direction).to(vertices)

    def score(t):
        return (coverage(to_clip(0.6 * vertices + t * move), tri, 96, backend) * weight).sum()

    # the mean slope over an interval is the rise over it
    slopes = []
    for middle in ((torch.arange(24) + 0.5) / 24 * 0.4 - 0.2).to(vertices):
        t = middle.requires_grad_()
        slopes.append(torch.autograd.grad(score(t), t)[0])
    rise = (score(0.2) - score(-0.2)) / 0.4
    assert torch.stack(slopes).mean().item() == pytest.approx(rise.item(), rel=0.025)


@pytest.mark.parametrize("backend_and_device", [("reference", "cpu"), *fast_backends("antialias")])
def test_coverage_of_each_pixel_changes_as_finite_differences_say(backend_and_device):
    """A square, a little turned, seen in perspective; its edges pass no pixel centre too near.

    It is drawn anew for each difference, so the claim is about all of drawing.
    """
    backend, device = backend_and_device
    size = 16
    dtype, step = (torch.float64, 1e-4) if backend == "reference" else (torch.float32, 2e-3)
    places = torch.tensor([[3.6, 4.4], [12.15, 4.15], [12.4, 12.6], [3.85, 12.85]], dtype=dtype)
    w = torch.tensor([1.0, 1.5, 2.0, 1.2], dtype=dtype)[:, None]
    pos = torch.cat([((2 * places + 1) / size - 1) * w, 0 * w, w], dim=1)[None]
    pos, tri = pos.to(device), torch.tensor([[0, 1, 2], [0, 2, 3]], device=device)
    draw = torch.Generator().manual_seed(0)
    weight = torch.rand(1, size, size, 1, generator=draw, dtype=torch.float64) + 0.5
    weight = weight.to(device)

    def score(pos):
        return (coverage(pos, tri, size, backend) * weight).sum()

    pos.requires_grad_()
    slopes = torch.autograd.grad(score(pos), pos)[0]
    moves = step * torch.eye(pos.numel(), dtype=dtype, device=device).view(-1, *pos.shape)
    with torch.no_grad():
        rises = torch.stack([score(pos + move) - score(pos - move) for move in moves])
    expected = (rises / (2 * step)).view_as(pos)
    assert (expected[..., [0, 1, 3]].abs() > 0.1).all()
    torch.testing.assert_close(slopes.double(), expected, rtol=0.01, atol=0.01)


def test_the_gradient_is_that_of_the_picture_itself():
    """Where no edge passes a pixel centre, the blend is a smooth function of the vertices."""
    vertices, tri = sphere(1, torch.float64)
    pos = to_clip(0.6 * vertices + torch.tensor([0.01, 0.02, 0.03]).double())
    rast = rasterize(pos, tri, (9, 9), backend="reference").detach()
    color = torch.sin(torch.arange(162.0, dtype=torch.float64)).reshape(1, 9, 9, 2).requires_grad_()
    pos = pos.requires_grad_()

    def run(color, pos):
        return antialias(color, rast, pos, tri, backend="reference")

    assert torch.autograd.gradcheck(run, (color, pos), eps=1e-7, atol=1e-5)


def blended(pos, tri, size, backend, channels=3):
    """Made-up colours, antialiased, and the gradients of a made-up loss to them and to `pos`."""
    pos = pos.detach().requires_grad_()
    rast = rasterize(pos, tri, size, backend="reference").detach()
    draw = torch.Generator().manual_seed(0)
    color = torch.rand(*size, channels, generator=draw).to(pos)[None].repeat(len(pos), 1, 1, 1)
    color.requires_grad_()
    picture = antialias(color, rast, pos, tri, backend=backend)
    upstream = torch.sin(torch.arange(1.0, 1 + picture[0].numel())).view_as(picture[0]).to(pos)
    return picture, *torch.autograd.grad((picture * upstream).sum(), (color, pos)), color


def border_cases():
    """Pictures whose edge an outline meets: too near, to one side, around and behind the camera."""
    vertices, tri = sphere(3)
    yield to_clip(vertices * 1.3, cameras(2)), tri
    yield to_clip(0.7 * vertices + torch.tensor([0.0, 1.1, 0.3]), cameras(3)), tri
    # a ribbon from behind the camera to far beyond the object, and one across the whole picture
    corners = torch.tensor([[9.0, -0.4, 0], [9, 0.5, 0.2], [-9, 0.4, 0], [-9, -0.5, 0.1]])
    across = corners[:, [1, 0, 2]]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    views = cameras(2, elevation=3.0)
    yield to_clip(torch.cat([corners, across]), views), torch.cat([faces, faces + 4])


@pytest.mark.parametrize("backend_and_device", fast_backends("antialias"))
@pytest.mark.parametrize("scene", ["sphere", "loose", 0, 1, 2])
def test_fast_and_reference_agree(backend_and_device, scene):
    backend, device = backend_and_device
    if backend == "nvdiffrast":
        pytest.skip("nvdiffrast has rules of its own for which edges count")
    if isinstance(scene, int):
        pos, tri = list(border_cases())[scene]
    else:
        vertices, tri = sphere(3) if scene == "sphere" else loose_triangles(60)
        pos = to_clip(vertices, cameras(2))
    pos, tri = pos.to(device), tri.to(device)
    for size, channels in (((40, 31), 3), ((19, 33), 1)):
        fast, reference = (
            blended(pos, tri, size, name, channels) for name in (backend, "reference")
        )
        assert not torch.equal(fast[0], fast[3])
        assert_values_agree(fast[0], reference[0])
        assert_gradients_agree(fast[1], reference[1])
        assert_gradients_agree(fast[2], reference[2])


@pytest.mark.parametrize("backend", BACKENDS)
def test_views_of_different_shapes_do_not_depend_on_each_other(backend):
    """The same triangles: a ball, a long one, one that is not seen, one cut by the border."""
    vertices, tri = sphere(3)
    shapes = [
        0.6 * vertices,
        vertices * torch.tensor([0.3, 0.9, 0.5]),
        0.3 * vertices + torch.tensor([0.0, 9.0, 0.0]),
        0.8 * vertices + torch.tensor([0.0, 0.9, 0.9]),
    ]
    pos = torch.cat([to_clip(shape) for shape in shapes])
    together = blended(pos, tri, (24, 30), backend)
    alone = [blended(view[None], tri, (24, 30), backend) for view in pos]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_equal_edges_the_first_is_pulled(backend):
    """Two triangles at the same place that share no vertex: the second is not there."""
    corners = torch.tensor([[0.0, -0.5, -0.4], [0.1, 0.6, -0.3], [-0.1, 0.1, 0.7]])
    pos = to_clip(torch.cat([corners, corners]))
    _, _, to_pos, _ = blended(pos, torch.tensor([[0, 1, 2], [3, 4, 5]]), (32, 32), backend)
    assert (to_pos[0, :3].abs().sum(dim=1) > 0).all()
    assert not to_pos[0, 3:].any()


@pytest.mark.usefixtures("small_work_is_cut")
def test_two_threads_draw_what_one_does():
    vertices, tri = sphere(6)
    pos = to_clip(0.7 * vertices)
    one = blended(pos, tri, (32, 41), "warp")
    torch.set_num_threads(2)
    try:
        two = blended(pos, tri, (32, 41), "warp")
    finally:
        torch.set_num_threads(1)
    assert torch.equal(two[0], one[0]) and torch.equal(two[1], one[1])
    assert_gradients_agree(two[2], one[2])


def test_wrong_input_is_named():
    pos, tri = torch.zeros(1, 3, 4), torch.tensor([[0, 1, 2]])
    rast, color = torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 4, 1)
    with pytest.raises(InputError, match=r"float32, got torch.float64"):
        antialias(color.double(), rast, pos, tri, backend="warp")


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_edge_inside_a_surface_changes_nothing(backend):
    corners = torch.tensor([[-1.0, 0, -9], [-1, 9, 0], [-1, 0, 9], [-1, -9, 0]])
    tri = torch.tensor([[0, 1, 2], [0, 2, 3]])
    pos = to_clip(corners)
    rast = rasterize(pos, tri, (32, 32), backend=backend)
    assert (rast[..., 3] > 0).all()
    color = torch.rand(1, 32, 32, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(antialias(color, rast, pos, tri, backend=backend), color)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hidden_silhouette_changes_nothing(backend):
    vertices, tri = sphere(3)
    wall = torch.tensor([[1.5, 0, -2], [1.5, 2, 0], [1.5, 0, 2], [1.5, -2, 0]]) * 3
    toward = cameras(1).position[0] / DISTANCE
    wall = wall - wall.mean(0) + 2 * toward  # between the camera and the ball
    both = torch.cat([0.4 * vertices, wall])
    faces = torch.cat([tri, torch.tensor([[0, 1, 2], [0, 2, 3]]) + len(vertices)])
    pos = to_clip(both)
    rast = rasterize(pos, faces, (32, 32), backend=backend)
    assert (rast[..., 3] > len(tri)).all()
    color = torch.rand(1, 32, 32, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(antialias(color, rast, pos, faces, backend=backend), color)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lost_sphere_is_pulled_back_by_its_outline(backend):
    """Ten pixels off target, and a loss on nothing but coverage."""
    vertices, tri = sphere(3)
    size = 48
    with torch.no_grad():
        target = coverage(to_clip(0.4 * vertices), tri, size, backend)
    side = torch.tensor([0.0, 10 * 2 * DISTANCE / (FOCAL * size), 0.0])
    offset = side.clone().requires_grad_()
    optimizer = torch.optim.Adam([offset], lr=0.02)
    for _ in range(120):
        loss = (coverage(to_clip(0.4 * vertices + offset), tri, size, backend) - target).square()
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    in_view = to_clip(offset.detach()[None])[0, 0]
    assert (in_view[:2] / in_view[3] * size / 2).norm() < 0.3


def test_edges_of_a_closed_surface_have_two_triangles():
    vertices, tri = sphere(2)
    topology = build_topology(tri)
    assert len(topology.edges) == len(tri) * 3 // 2
    assert len(vertices) - len(topology.edges) + len(tri) == 2
    for side in range(2):
        owner = tri[topology.triangles[:, side].long()]
        named = torch.cat([topology.edges, topology.opposite[:, side : side + 1]], dim=1)
        assert torch.equal(named.long().sort(dim=1).values, owner.sort(dim=1).values)


def test_edges_of_an_open_or_branching_surface():
    topology = build_topology(torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4]]))
    shared = (topology.edges == torch.tensor([0, 1])).all(dim=1)
    assert shared.sum() == 1 and len(topology.edges) == 7
    assert topology.opposite[shared].tolist() == [[2, 3]]
    assert (topology.opposite[~shared, 1] == -1).all()
    assert len(build_topology(torch.zeros(0, 3, dtype=torch.int64)).edges) == 0


def test_edges_are_named_by_32_bits_or_by_64():
    """Two triangles at an edge, their vertices numbered low, and so high that 32 bits overflow."""
    low = torch.tensor([[0, 1, 2], [2, 1, 3]])
    names = torch.tensor([3, 46_341, 99_999, 1_000_000])
    few, many = build_topology(low), build_topology(names[low])
    assert torch.equal(many.edges, names[few.edges])
    assert torch.equal(many.opposite, names[few.opposite].where(few.opposite >= 0, -1))
    assert torch.equal(many.triangles, few.triangles)


def test_moved_triangles_keep_their_edges():
    vertices, tri = sphere(1)
    before = Triangles(vertices, tri)
    after = before.moved_to(2 * vertices)
    assert after.topology is before.topology
    assert torch.equal(after.vertices, 2 * vertices) and after.tri is tri
