"""Hash encoding on Warp kernels, with hand-written derivatives up to second order.

Three maps are enough. With E(x, theta) the encoding of points x from the table theta, linear in
theta, v a cotangent of E and u a vector in point space:

    point_gradient(x, theta, v) = (dE/dx)^T v          derivative of v . E by x
    directional(x, theta, u)    = (dE/dx) u            derivative of u . point_gradient by v
    table_gradient(x, v)        = (dE/dtheta)^T v      derivative of v . E by theta
"""

import functools
from typing import Any

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dreamlab.ops.hashgrid.encode import HashGridLayout
from dreamlab.ops.hashgrid.kernels import first_order, second_order
from dreamlab.ops.warp_setup import launch_split, runs_in_turn

CPU_CHUNK = 1024
"""Points that one Warp thread takes on a CPU, where threads run one after the other."""


def encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    layout: HashGridLayout,
) -> Float[Tensor, "points outputs"]:
    """Encode points; see `dreamlab.ops.hashgrid.encode.hash_encode`."""
    return _Encode.apply(points.contiguous(), table.contiguous(), layout)


def point_gradient(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    cotangent: Float[Tensor, "points outputs"],
    layout: HashGridLayout,
) -> Float[Tensor, "points 3"]:
    """Differentiate the encoding; see `dreamlab.ops.hashgrid.hash_point_gradient`."""
    return _PointGradient.apply(points.contiguous(), table.contiguous(), cotangent, layout)


class _Encode(Function):
    """E(x, theta)."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, layout: HashGridLayout) -> Tensor:
        ctx.save_for_backward(points, table)
        ctx.layout = layout
        output = points.new_empty(len(points), layout.num_outputs)
        kernel = first_order(layout.config.num_features).encode
        _over_points(kernel, layout, points, table, output)
        return output

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        points, table = ctx.saved_tensors
        (cotangent,) = cotangents
        to_points = to_table = None
        if ctx.needs_input_grad[0]:
            to_points = _PointGradient.apply(points, table, cotangent, ctx.layout)
        if ctx.needs_input_grad[1]:
            to_table = _TableGradient.apply(points, cotangent, ctx.layout)
        return to_points, to_table, None


class _TableGradient(Function):
    """(dE/dtheta)^T v; not differentiable further."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, cotangent: Tensor, layout: HashGridLayout) -> Tensor:
        output = points.new_zeros(layout.num_entries, layout.config.num_features)
        kernel = first_order(layout.config.num_features).table_gradient
        _over_levels(kernel, layout, points, cotangent.contiguous(), output)
        return output

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        raise NotImplementedError(
            "The Warp hash encoding cannot differentiate its gradient to the table again; "
            "use backend='reference' for that."
        )


class _PointGradient(Function):
    """(dE/dx)^T v."""

    @staticmethod
    def forward(
        ctx: Any, points: Tensor, table: Tensor, cotangent: Tensor, layout: HashGridLayout
    ) -> Tensor:
        cotangent = cotangent.contiguous()
        ctx.save_for_backward(points, table, cotangent)
        ctx.layout = layout
        output = torch.zeros_like(points)
        kernel = first_order(layout.config.num_features).point_gradient
        _over_points(kernel, layout, points, table, cotangent, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *directions: Tensor) -> tuple[Tensor | None, ...]:
        points, table, cotangent = ctx.saved_tensors
        layout: HashGridLayout = ctx.layout
        direction = directions[0].contiguous()
        kernels = second_order(layout.config.num_features)
        to_points = to_table = to_cotangent = None
        if ctx.needs_input_grad[0]:
            to_points = torch.zeros_like(points)
            tensors = (points, table, direction, cotangent, to_points)
            _over_points(kernels.point_hessian, layout, *tensors)
        if ctx.needs_input_grad[1]:
            to_table = torch.zeros_like(table)
            tensors = (points, direction, cotangent, to_table)
            _over_levels(kernels.directional_table_gradient, layout, *tensors)
        if ctx.needs_input_grad[2]:
            to_cotangent = torch.empty_like(cotangent)
            _over_points(kernels.directional, layout, points, table, direction, to_cotangent)
        return to_points, to_table, to_cotangent, None


def _over_points(kernel: wp.Kernel, layout: HashGridLayout, *tensors: Tensor) -> None:
    """Launch a kernel that writes per point, split over points; `tensors` start with the points."""
    points = tensors[0]
    chunk = CPU_CHUNK if runs_in_turn(points.device) else 1
    config = layout.config
    smooth = int(config.interpolation == "smoothstep")
    inputs = [chunk, config.num_levels, smooth, *_level_tensors(layout, points.device), *tensors]
    launch_split(
        kernel,
        len(points),
        inputs,
        points.device,
        tasks=lambda length: config.num_levels * -(-length // chunk),
        ranges_per_thread=1,
    )


def _over_levels(kernel: wp.Kernel, layout: HashGridLayout, *tensors: Tensor) -> None:
    """Launch a kernel that writes to the table, split over levels, whose rows are disjoint."""
    points = tensors[0]
    chunk = max(len(points), 1) if runs_in_turn(points.device) else 1
    config = layout.config
    smooth = int(config.interpolation == "smoothstep")
    levels = _level_tensors(layout, points.device)
    inputs = [chunk, config.num_levels, len(points), smooth, *levels, *tensors]
    launch_split(
        kernel,
        config.num_levels if len(points) else 0,
        inputs,
        points.device,
        tasks=lambda length: length * -(-len(points) // chunk),
        grain=1,
    )


@functools.lru_cache(maxsize=64)
def _level_tensors(layout: HashGridLayout, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the scales, and (first row, number of rows, resolution) of all levels."""
    rows = list(zip(layout.offsets, layout.sizes, layout.resolutions, strict=True))
    scales = torch.tensor(layout.scales, dtype=torch.float32, device=device)
    return scales, torch.tensor(rows, dtype=torch.int32, device=device)
