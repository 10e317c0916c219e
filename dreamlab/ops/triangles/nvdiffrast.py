"""The primitives of meshes on nvdiffrast, where its package is installed.

Its calls have the conventions of `dreamlab.ops.triangles`, so values pass through unchanged; z / w
and the triangle number carry no gradient there either. The package has a licence of its own, is
installed by hand and runs on CUDA only. This adapter is tested on a stand-in with its interface;
it has not been run on a GPU.

Source: https://github.com/NVlabs/nvdiffrast, `nvdiffrast/torch/ops.py`.
"""

import functools
import importlib
from typing import Any

import torch
from torch import Tensor


def rasterize(pos: Tensor, tri: Tensor, resolution: tuple[int, int]) -> Tensor:
    """Rasterize; see `dreamlab.ops.triangles.rasterize.rasterize`."""
    context = _context(str(pos.device))
    return _package().rasterize(context, pos.contiguous(), tri, resolution, grad_db=False)[0]


def interpolate(attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
    """Interpolate; see `dreamlab.ops.triangles.interpolate.interpolate`."""
    return _package().interpolate(attr.contiguous(), rast.contiguous(), tri)[0]


def antialias(color: Tensor, rast: Tensor, pos: Tensor, tri: Tensor) -> Tensor:
    """Antialias; see `dreamlab.ops.triangles.antialias.antialias`."""
    return _package().antialias(color.contiguous(), rast.contiguous(), pos.contiguous(), tri)


def texture(tex: Tensor, uv: Tensor, level: Tensor | None) -> Tensor:
    """Sample a texture; see `dreamlab.ops.triangles.texture.texture`."""
    bias = None if level is None else level.contiguous()
    return _package().texture(
        tex.contiguous(), uv.contiguous(), mip_level_bias=bias, boundary_mode="clamp"
    )


def _package() -> Any:
    # The import is dynamic because the package is on no index, so nothing can declare it.
    return importlib.import_module("nvdiffrast.torch")


@functools.cache
def _context(device: str) -> Any:
    return _package().RasterizeCudaContext(torch.device(device))
