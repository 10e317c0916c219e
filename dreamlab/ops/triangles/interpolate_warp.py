# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Interpolation on Warp kernels, one thread a pixel, with the backward pass by hand.

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
from dreamlab.ops.warp_setup import launch_scatter, launch_split

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
    view_pixels: wp.int32,
    view_vertices: wp.int32,
    channels: wp.int32,
    tri: wp.array(dtype=wp.vec3i),
    attr: wp.array(dtype=wp.float32),
    rast: wp.array(dtype=wp.vec4),
    picture: wp.array(dtype=wp.float32),
):
    """`view_vertices` is 0 if all views share their attributes."""
    pixel = start + wp.tid()
    seen = rast[pixel]
    if seen[3] == 0.0:
        return
    first = pixel / view_pixels * view_vertices
    corners = tri[wp.int32(seen[3]) - 1]
    a = (first + corners[0]) * channels
    b = (first + corners[1]) * channels
    c = (first + corners[2]) * channels
    third = 1.0 - seen[0] - seen[1]
    for i in range(channels):
        value = seen[0] * attr[a + i] + seen[1] * attr[b + i] + third * attr[c + i]
        picture[pixel * channels + i] = value


@wp.kernel(enable_backward=False)
@no_type_check
def weight_gradient_kernel(
    start: wp.int32,
    view_pixels: wp.int32,
    view_vertices: wp.int32,
    channels: wp.int32,
    tri: wp.array(dtype=wp.vec3i),
    attr: wp.array(dtype=wp.float32),
    rast: wp.array(dtype=wp.vec4),
    to_picture: wp.array(dtype=wp.float32),
    to_rast: wp.array(dtype=wp.vec4),
):
    pixel = start + wp.tid()
    seen = rast[pixel]
    if seen[3] == 0.0:
        return
    first = pixel / view_pixels * view_vertices
    corners = tri[wp.int32(seen[3]) - 1]
    a = (first + corners[0]) * channels
    b = (first + corners[1]) * channels
    c = (first + corners[2]) * channels
    to_first = wp.float32(0.0)
    to_second = wp.float32(0.0)
    for i in range(channels):
        d = to_picture[pixel * channels + i]
        to_first += d * (attr[a + i] - attr[c + i])
        to_second += d * (attr[b + i] - attr[c + i])
    to_rast[pixel] = wp.vec4(to_first, to_second, 0.0, 0.0)


@wp.kernel(enable_backward=False)
@no_type_check
def attribute_gradient_kernel(
    start: wp.int32,
    view_pixels: wp.int32,
    view_vertices: wp.int32,
    channels: wp.int32,
    tri: wp.array(dtype=wp.vec3i),
    rast: wp.array(dtype=wp.vec4),
    to_picture: wp.array(dtype=wp.float32),
    to_attr: wp.array(dtype=wp.float32),
):
    pixel = start + wp.tid()
    seen = rast[pixel]
    if seen[3] == 0.0:
        return
    first = pixel / view_pixels * view_vertices
    corners = tri[wp.int32(seen[3]) - 1]
    weights = wp.vec3(seen[0], seen[1], 1.0 - seen[0] - seen[1])
    for i in range(channels):
        d = to_picture[pixel * channels + i]
        for k in range(3):
            wp.atomic_add(to_attr, (first + corners[k]) * channels + i, weights[k] * d)


class _Interpolate(Function):
    """Values of pixels, with gradients to vertices and weights."""

    @staticmethod
    def forward(ctx: Any, attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
        channels = attr.shape[-1]
        picture = rast.new_zeros(*rast.shape[:3], channels)
        ctx.sizes = [
            rast.shape[1] * rast.shape[2], 0 if attr.ndim == 2 else attr.shape[1], channels
        ]  # fmt: skip
        inputs = [*ctx.sizes, tri, attr.view(-1), rast.view(-1, 4), picture.view(-1)]
        launch_split(value_kernel, rast[..., 0].numel(), inputs, rast.device)
        ctx.save_for_backward(attr, rast, tri)
        return picture

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        attr, rast, tri = ctx.saved_tensors
        to_picture = cotangents[0].contiguous().view(-1)
        pixels = rast[..., 0].numel()
        to_attr = to_rast = None
        if ctx.needs_input_grad[1]:
            to_rast = torch.zeros_like(rast)
            inputs = [*ctx.sizes, tri, attr.view(-1), rast, to_picture, to_rast]
            launch_split(weight_gradient_kernel, pixels, inputs, rast.device)
        if ctx.needs_input_grad[0]:
            inputs = [*ctx.sizes, tri, rast, to_picture]
            to_attr = launch_scatter(
                attribute_gradient_kernel, pixels, inputs, tuple(attr.shape), rast.device
            )
        return to_attr, to_rast, None
