"""Interpolation: exact for linear functions, backends agree, gradients are exact."""

import pytest
import torch
from closeness import assert_gradients_agree, assert_values_agree, fast_backends
from triangle_views import cameras, loose_triangles, sphere, to_clip

from dreamlab.core.errors import InputError
from dreamlab.ops.triangles.interpolate import interpolate
from dreamlab.ops.triangles.rasterize import rasterize

BACKENDS = ["reference", "warp"]


def scene(dtype=torch.float32, device="cpu"):
    vertices, tri = sphere(2, dtype)
    pos = to_clip(vertices, cameras(2)).to(device)
    rast = rasterize(pos, tri.to(device), (20, 22), backend="reference")
    return vertices.to(device), tri.to(device), rast


@pytest.mark.parametrize("backend", BACKENDS)
def test_positions_are_carried_to_where_rays_meet_the_surface(backend):
    vertices, tri = sphere(5)
    views = cameras(2)
    rast = rasterize(to_clip(vertices, views), tri, (24, 24), backend=backend)
    points = interpolate(vertices, rast, tri, backend=backend).flip(1)
    seen = (rast[..., 3] > 0).flip(1)
    assert not points[~seen].any()
    origins, directions = views.rays(24, 24)
    along = ((points - origins) * directions).sum(-1, keepdim=True)
    torch.testing.assert_close(
        (origins + along * directions)[seen], points[seen], atol=1e-5, rtol=0
    )
    assert ((points[seen].norm(dim=-1) - 1).abs() < 2e-3).all()


@pytest.mark.parametrize("backend_and_device", fast_backends("interpolate"))
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("per_view", [False, True])
def test_fast_and_reference_agree(backend_and_device, channels, per_view):
    backend, device = backend_and_device
    vertices, tri, rast = scene(device=device)
    draw = torch.Generator().manual_seed(0)
    shape = (2, len(vertices), channels) if per_view else (len(vertices), channels)
    attr = torch.randn(shape, generator=draw).to(device).requires_grad_()
    rast.requires_grad_()
    results = {}
    for name in ("reference", backend):
        picture = interpolate(attr, rast, tri, backend=name)
        upstream = torch.sin(torch.arange(1.0, 1 + picture.numel())).view_as(picture).to(device)
        results[name] = picture, torch.autograd.grad((picture * upstream).sum(), (attr, rast))
    fast, reference = results[backend], results["reference"]
    assert_values_agree(fast[0], reference[0])
    assert_gradients_agree(fast[1][0], reference[1][0])
    assert_gradients_agree(fast[1][1], reference[1][1])


def test_reference_gradients_are_exact():
    vertices, tri = loose_triangles(6, dtype=torch.float64)
    rast = rasterize(to_clip(vertices), tri, (7, 6), backend="reference").requires_grad_()
    attr = torch.sin(torch.arange(54.0, dtype=torch.float64)).reshape(18, 3).requires_grad_()

    def run(attr, first_and_second):
        full = torch.cat([first_and_second, rast.detach()[..., 2:]], dim=-1)
        return interpolate(attr, full, tri, backend="reference")

    assert torch.autograd.gradcheck(run, (attr, rast[..., :2].detach().requires_grad_()))


def test_wrong_input_is_named():
    vertices, tri, rast = scene()
    with pytest.raises(InputError, match="3 views cannot be seen in 2"):
        interpolate(torch.zeros(3, 4, 1), rast, tri)
    with pytest.raises(InputError, match="float32"):
        interpolate(vertices.double(), rast, tri, backend="warp")
    with pytest.raises(InputError, match=f"of {len(vertices) - 1}"):
        interpolate(vertices[:-1], rast, tri)
