"""The hook for nvdiffrast: what it is handed, and that what comes back passes through.

The library needs CUDA; the tests of each operation compare it where it is installed. Here a module
with its interface stands in: it checks its arguments as nvdiffrast does, and answers by our
reference.
"""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from triangle_views import cameras, sphere, to_clip

from dreamlab.core.errors import MissingError
from dreamlab.ops.triangles import nvdiffrast
from dreamlab.ops.triangles.antialias import antialias
from dreamlab.ops.triangles.interpolate import interpolate
from dreamlab.ops.triangles.rasterize import rasterize
from dreamlab.ops.triangles.texture import texture

NAME = "nvdiffrast"


class Package(ModuleType):
    """nvdiffrast.torch, as far as it is called."""

    def __init__(self) -> None:
        super().__init__("nvdiffrast.torch")
        self.contexts: list[torch.device] = []

    def RasterizeCudaContext(self, device: torch.device) -> str:
        self.contexts.append(device)
        return "context"

    def rasterize(self, glctx: Any, pos, tri, resolution, ranges=None, grad_db=True):
        assert glctx == "context" and ranges is None and grad_db is False
        check(pos, tri)
        assert pos.dim() == 3 and pos.shape[2] == 4 and isinstance(resolution, tuple)
        rast = rasterize(pos, tri, resolution, backend="reference")
        return rast, rast.new_zeros(*rast.shape[:3], 0)

    def interpolate(self, attr, rast, tri, rast_db=None, diff_attrs=None):
        assert rast_db is None and diff_attrs is None
        check(attr, tri, rast)
        assert attr.dim() == 2 or attr.shape[0] in (1, len(rast))
        picture = interpolate(attr, rast, tri, backend="reference")
        return picture, picture.new_zeros(*picture.shape[:3], 0)

    def antialias(self, color, rast, pos, tri, topology_hash=None, pos_gradient_boost=1.0):
        assert topology_hash is None and pos_gradient_boost == 1.0
        check(color, tri, rast, pos)
        return antialias(color, rast, pos, tri, backend="reference")

    def texture(
        self, tex, uv, uv_da=None, mip_level_bias=None, mip=None, filter_mode="auto",
        boundary_mode="wrap", max_mip_level=None,
    ):  # fmt: skip
        assert uv_da is None and mip is None and max_mip_level is None and filter_mode == "auto"
        assert boundary_mode == "clamp" and tex.dim() == uv.dim() == 4
        given = [x for x in (tex, uv, mip_level_bias) if x is not None]
        assert all(x.dtype == torch.float32 and x.is_contiguous() for x in given)
        return texture(tex, uv, mip_level_bias, backend="reference")


def check(first, tri, *others) -> None:
    assert tri.dtype == torch.int32 and tri.shape[1] == 3
    for tensor in (first, *others):
        assert tensor.dtype == torch.float32
    for tensor in (first, tri, *others):
        assert tensor.is_contiguous()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Package:
    module = Package()
    monkeypatch.setitem(sys.modules, "nvdiffrast", ModuleType("nvdiffrast"))
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", module)
    nvdiffrast._context.cache_clear()
    return module


def drawn(module: Any, strided: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """A lit ball by the three operations of a module, and the gradient to its corners."""
    vertices, tri = sphere(2)
    pos = to_clip(0.6 * vertices, cameras(2)).requires_grad_()
    tri = tri.int()
    # as a renderer has them: rows of something wider
    given = torch.cat([pos, pos], dim=2)[..., :4] if strided else pos
    rast = module.rasterize(given, tri, (17, 20))
    attributes = torch.cat([vertices, vertices], dim=1)[:, 1:4]
    seen = module.interpolate(attributes if strided else attributes.contiguous(), rast, tri)
    picture = module.antialias(seen.movedim(1, 2).movedim(2, 1), rast, given, tri)
    return picture, torch.autograd.grad((picture * torch.arange(20.0)[:, None]).sum(), pos)[0]


class Reference:
    """The same calls by our reference."""

    @staticmethod
    def rasterize(pos, tri, resolution):
        return rasterize(pos, tri, resolution, backend="reference")

    @staticmethod
    def interpolate(attr, rast, tri):
        return interpolate(attr, rast, tri, backend="reference")

    @staticmethod
    def antialias(color, rast, pos, tri):
        return antialias(color, rast, pos, tri, backend="reference")


@pytest.mark.parametrize("strided", [False, True])
def test_pictures_and_gradients_pass_through_whatever_the_strides(package: Package, strided: bool):
    found, expected = drawn(nvdiffrast, strided), drawn(Reference)
    assert torch.equal(found[0], expected[0]) and found[0].std() > 0.05
    torch.testing.assert_close(found[1], expected[1])


def test_one_context_serves_all_calls_of_a_device(package: Package):
    drawn(nvdiffrast)
    drawn(nvdiffrast)
    assert package.contexts == [torch.device("cpu")]


@pytest.mark.parametrize("with_level", [False, True])
def test_textures_are_clamped_and_levels_are_told_directly(package: Package, with_level: bool):
    draw = torch.Generator().manual_seed(0)
    tex = torch.rand(1, 3, 8, 8, generator=draw).permute(0, 2, 3, 1)
    uv = 2 * torch.rand(2, 5, 4, 2, generator=draw) - 0.5
    level = 2 * torch.rand(2, 5, 4, generator=draw) if with_level else None
    assert torch.equal(nvdiffrast.texture(tex, uv, level), texture(tex, uv, level))


def test_it_is_taken_on_cuda_alone_and_only_when_asked_for():
    for call in (
        lambda: rasterize(torch.zeros(1, 3, 4), torch.tensor([[0, 1, 2]]), (4, 4), backend=NAME),
        lambda: texture(torch.zeros(1, 2, 2, 1), torch.zeros(1, 2, 2, 2), backend=NAME),
    ):
        with pytest.raises(MissingError, match="nvdiffrast runs on CUDA only"):
            call()
