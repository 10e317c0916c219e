# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Interpolation on Warp kernels, with the backward pass by hand.

Formulas and names are those of `dreamlab.ops.triangles.interpolate`; with d = dL/dvalue,

    dL/da_k = b_k d,   dL/db_0 = d . (a_0 - a_2),   dL/db_1 = d . (a_1 - a_2).
"""

from typing import Any, no_type_check

import torch
import warp as wp
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dreamlab.core.errors import InputError
from dreamlab.ops.warp_setup import Runs, launch_scatter, launch_split, pixel_runs

wp.set_module_options({"enable_backward": False})


def interpolate(attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
    """Interpolate; see `dreamlab.ops.triangles.interpolate.interpolate`.

    Raises:
        InputError: the attributes are not float32.
    """
    if not attr.dtype == rast.dtype == torch.float32:
        raise InputError(
            f"interpolate on backend 'warp' needs float32, got {attr.dtype} and {rast.dtype}.",
            "Convert them with .float(), or use backend 'reference'.",
        )
    return _Interpolate.apply(attr.contiguous(), rast.contiguous(), tri)


@wp.kernel(enable_backward=False)
@no_type_check
def value_kernel(
    start: wp.int32,
    run: wp.int32,
    view_pixels: wp.int32,
    view_vertices: wp.int32,
    channels: wp.int32,
    tri: wp.array(dtype=wp.vec3i),
    attr: wp.array(dtype=wp.float32),
    rast: wp.array(dtype=wp.vec4),
    picture: wp.array(dtype=wp.float32),
):
    """Fill `run` pixels of a view; `view_vertices` is 0 if all views share their attributes.

    `picture` is zero at first.
    """
    first_pixel = (start + wp.tid()) * run
    first = first_pixel / view_pixels * view_vertices
    pixel = wp.int32(first_pixel)
    while pixel < first_pixel + run:
        seen = rast[pixel]
        if seen[3] != 0.0:
            corners = tri[wp.int32(seen[3]) - 1]
            a = (first + corners[0]) * channels
            b = (first + corners[1]) * channels
            c = (first + corners[2]) * channels
            third = 1.0 - seen[0] - seen[1]
            i = wp.int32(0)
            while i < channels:
                value = seen[0] * attr[a + i] + seen[1] * attr[b + i] + third * attr[c + i]
                picture[pixel * channels + i] = value
                i += 1
        pixel += 1


@wp.kernel(enable_backward=False)
@no_type_check
def gradient_kernel(
    start: wp.int32,
    run: wp.int32,
    view_pixels: wp.int32,
    view_vertices: wp.int32,
    channels: wp.int32,
    tri: wp.array(dtype=wp.vec3i),
    attr: wp.array(dtype=wp.float32),
    rast: wp.array(dtype=wp.vec4),
    to_picture: wp.array(dtype=wp.float32),
    to_rast: wp.array(dtype=wp.vec4),
    to_attr: wp.array(dtype=wp.float32),
):
    """Store the gradient to the weights of `run` pixels, and add that to the attributes."""
    first_pixel = (start + wp.tid()) * run
    first = first_pixel / view_pixels * view_vertices
    pixel = wp.int32(first_pixel)
    while pixel < first_pixel + run:
        seen = rast[pixel]
        if seen[3] == 0.0:
            to_rast[pixel] = wp.vec4()
        else:
            corners = tri[wp.int32(seen[3]) - 1]
            a = (first + corners[0]) * channels
            b = (first + corners[1]) * channels
            c = (first + corners[2]) * channels
            third = 1.0 - seen[0] - seen[1]
            to_first = wp.float32(0.0)
            to_second = wp.float32(0.0)
            i = wp.int32(0)
            while i < channels:
                d = to_picture[pixel * channels + i]
                to_first += d * (attr[a + i] - attr[c + i])
                to_second += d * (attr[b + i] - attr[c + i])
                wp.atomic_add(to_attr, a + i, seen[0] * d)
                wp.atomic_add(to_attr, b + i, seen[1] * d)
                wp.atomic_add(to_attr, c + i, third * d)
                i += 1
            to_rast[pixel] = wp.vec4(to_first, to_second, 0.0, 0.0)
        pixel += 1


class _Interpolate(Function):
    """Values of pixels, with gradients to vertices and weights."""

    @staticmethod
    def forward(ctx: Any, attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
        batch, height, width, _ = rast.shape
        channels = attr.shape[-1]
        size = (batch, height, width, channels)
        picture = torch.zeros(size, dtype=rast.dtype, device=rast.device)
        runs = pixel_runs(batch * height * width, width, rast.device)
        sizes = [runs.length, height * width, 0 if attr.ndim == 2 else attr.shape[1], channels]
        inputs = [*sizes, tri, attr, rast, picture]
        launch_split(value_kernel, runs.count, inputs, rast.device, grain=runs.grain)
        ctx.runs, ctx.sizes = runs, sizes
        ctx.save_for_backward(attr, rast, tri)
        return picture

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        attr, rast, tri = ctx.saved_tensors
        runs: Runs = ctx.runs
        to_rast = torch.empty_like(rast)
        inputs = [*ctx.sizes, tri, attr, rast, cotangents[0].contiguous(), to_rast]
        shape = tuple(attr.shape)
        to_attr = launch_scatter(
            gradient_kernel, runs.count, inputs, shape, rast.device, grain=runs.grain
        )
        return to_attr, to_rast, None
