"""Normals: of known shapes, backends agree, gradients are exact."""

import pytest
import torch
from closeness import assert_gradients_agree, assert_values_agree, fast_backends
from triangle_views import loose_triangles, sphere

from dreamlab.core.errors import InputError
from dreamlab.ops.triangles.normals import face_normals, vertex_normals

BACKENDS = ["reference", "warp"]
KINDS = {"face": face_normals, "vertex": vertex_normals}


@pytest.mark.parametrize("backend", BACKENDS)
def test_normals_of_a_sphere_point_outwards(backend):
    vertices, tri = sphere(3)
    turned = torch.stack([vertices[:, 1], vertices[:, 2], vertices[:, 0]], dim=1)
    for points in (vertices, 0.01 * turned):
        of_vertices = vertex_normals(points, tri, backend=backend)
        of_faces = face_normals(points, tri, backend=backend)
        middles = torch.nn.functional.normalize(points[tri].mean(dim=1), dim=-1)
        outwards = torch.nn.functional.normalize(points, dim=-1)
        assert (of_vertices * outwards).sum(dim=1).min() > 0.999
        assert (of_faces * middles).sum(dim=1).min() > 0.999


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_triangle_counts_by_its_area(backend):
    """At the origin two triangles meet, upright to each other, one three times as large."""
    corners = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 1]])
    tri = torch.tensor([[0, 1, 2], [0, 2, 3]])
    normal = vertex_normals(corners, tri, backend=backend)[0]
    torch.testing.assert_close(normal, torch.tensor([1.0, 0.0, 3.0]) / 10**0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend_and_device", fast_backends("normals"))
def test_fast_and_reference_agree(kind, backend_and_device):
    backend, device = backend_and_device
    for points, tri in (sphere(3), loose_triangles(50)):
        vertices, faces = points.to(device).requires_grad_(), tri.to(device)
        results = {}
        for name in ("reference", backend):
            normals = KINDS[kind](vertices, faces, backend=name)
            upstream = torch.sin(torch.arange(1.0, 1 + normals.numel())).view_as(normals)
            loss = (normals * upstream.to(device)).sum()
            results[name] = normals, torch.autograd.grad(loss, vertices)[0]
        fast, reference = results[backend], results["reference"]
        assert_values_agree(fast[0], reference[0])
        assert_gradients_agree(fast[1], reference[1])


@pytest.mark.parametrize("kind", KINDS)
def test_reference_gradients_are_exact(kind):
    vertices, tri = sphere(0, torch.float64)
    draw = torch.Generator().manual_seed(0)
    vertices = vertices + 0.2 * torch.rand(vertices.shape, generator=draw, dtype=torch.float64)

    def run(vertices):
        return KINDS[kind](vertices, tri, backend="reference")

    assert torch.autograd.gradcheck(run, vertices.requires_grad_())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_has_no_area_has_no_normal_and_no_gradient(kind, backend):
    vertices = torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2], [5, 0, 0]]).requires_grad_()
    for tri in (torch.zeros(0, 3, dtype=torch.int64), torch.tensor([[0, 1, 2], [0, 0, 1]])):
        normals = KINDS[kind](vertices, tri, backend=backend)
        assert normals.shape == (len(tri) if kind == "face" else 4, 3)
        assert not normals.any()
        assert not torch.autograd.grad(normals.sum(), vertices)[0].any()


@pytest.mark.usefixtures("small_work_is_cut")
def test_two_threads_find_what_one_does():
    vertices, tri = sphere(6)
    one = [normals(vertices, tri, backend="warp") for normals in KINDS.values()]
    torch.set_num_threads(2)
    try:
        two = [normals(vertices, tri, backend="warp") for normals in KINDS.values()]
    finally:
        torch.set_num_threads(1)
    for first, second in zip(one, two, strict=True):
        assert_values_agree(second, first)


def test_wrong_input_is_named():
    with pytest.raises(InputError, match=r"float32, got torch.float64"):
        face_normals(torch.zeros(3, 3).double(), torch.tensor([[0, 1, 2]]), backend="warp")
