# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Splatting on Warp kernels, with the backward pass by hand.

Formulas and names are those of `dreamlab.ops.splat.splat`. The picture is cut into tiles of
`TILE`^2 pixels. A tile's list holds, nearest first, the Gaussians whose box touches it; the box is
where alpha may reach 1/255, so nothing that counts is left out. Lists are filled row of tiles by
row of tiles, each in the order of distance, so no lists are sorted and no two threads share one.
Then each thread blends a pixel.

With q_i = dL/dw_i, the sum of what features and alpha send back to the weight, and B_i the sum of
w_j q_j over what lies behind i,

    dL/da_i = T_i q_i - B_i / (1 - a_i),   dL/df_i = w_i dL/dfeatures.

The backward kernel walks each pixel's list from its last contribution to the front.
"""

from typing import Any, no_type_check

import torch
import warp as wp
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dreamlab.ops.splat.project import Projected
from dreamlab.ops.splat.splat import EARLY_STOP, MAX_ALPHA, MIN_ALPHA
from dreamlab.ops.warp_setup import launch_scatter, launch_split

wp.set_module_options({"enable_backward": False})

TILE = 8
"""Side of a tile, pixels."""
GEOMETRY = 6
"""Numbers of a Gaussian that its alpha depends on: mean (2), conic (3), opacity."""
_LARGEST = wp.constant(wp.float32(MAX_ALPHA))
_LEAST = wp.constant(wp.float32(MIN_ALPHA))
_STOP = wp.constant(wp.float32(EARLY_STOP))


def blend(projected: Projected, features: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Blend; see `dreamlab.ops.splat.splat.splat`."""
    parts = [projected.mean, projected.conic, projected.opacity[..., None]]
    geometry = torch.cat(parts, dim=-1).contiguous()
    order = projected.distance.detach().argsort(dim=1, stable=True).int()
    return _Blend.apply(geometry, features.contiguous(), order, projected.is_visible, height, width)


@wp.func
@no_type_check
def alpha_at(g: wp.array(dtype=wp.float32), first: wp.int32, x: wp.float32, y: wp.float32):
    """Return the Gaussian's alpha at an offset from its mean, before the limits."""
    power = -0.5 * (g[first + 2] * x * x + g[first + 4] * y * y) - g[first + 3] * x * y
    return g[first + 5] * wp.exp(power)


@wp.kernel(enable_backward=False)
@no_type_check
def box_kernel(
    start: wp.int32,
    across: wp.int32,
    down: wp.int32,
    geometry: wp.array(dtype=wp.float32),
    is_visible: wp.array(dtype=wp.bool),
    boxes: wp.array(dtype=wp.vec4i),
):
    """Store first and last tile column, first and last tile row of every Gaussian."""
    item = start + wp.tid()
    first = item * GEOMETRY
    opacity = geometry[first + 5]
    box = wp.vec4i(0, -1, 0, -1)
    if is_visible[item] and opacity >= _LEAST:
        a = geometry[first + 2]
        b = geometry[first + 3]
        c = geometry[first + 4]
        reach = 2.0 * wp.log(opacity / _LEAST) / (a * c - b * b)
        x = wp.sqrt(reach * c) + 0.01
        y = wp.sqrt(reach * a) + 0.01
        side = wp.float32(TILE)
        limit = wp.float32(1 << 20)
        u = wp.clamp(geometry[first], -limit, limit)
        v = wp.clamp(geometry[first + 1], -limit, limit)
        box = wp.vec4i(
            wp.max(wp.int32(wp.floor((u - x) / side)), 0),
            wp.min(wp.int32(wp.floor((u + x) / side)), across - 1),
            wp.max(wp.int32(wp.floor((v - y) / side)), 0),
            wp.min(wp.int32(wp.floor((v + y) / side)), down - 1),
        )
    boxes[item] = box


@wp.kernel(enable_backward=False)
@no_type_check
def list_kernel(
    start: wp.int32,
    gaussians: wp.int32,
    across: wp.int32,
    down: wp.int32,
    order: wp.array(dtype=wp.int32),
    boxes: wp.array(dtype=wp.vec4i),
    ends: wp.array(dtype=wp.int32),
    members: wp.array(dtype=wp.int32),
):
    """Count (if there is no room yet) or list the Gaussians of all tiles in one row of tiles.

    `ends` holds where each list will end next: it begins as its start and ends as its end.
    """
    row = start + wp.tid()
    view = row / down
    y = row % down
    for place in range(gaussians):
        item = view * gaussians + order[view * gaussians + place]
        box = boxes[item]
        if box[2] <= y and y <= box[3]:
            for x in range(box[0], box[1] + 1):
                tile = row * across + x
                if members.shape[0] > 0:
                    members[ends[tile]] = item
                ends[tile] = ends[tile] + 1


@wp.kernel(enable_backward=False)
@no_type_check
def blend_kernel(
    start: wp.int32,
    channels: wp.int32,
    height: wp.int32,
    width: wp.int32,
    across: wp.int32,
    down: wp.int32,
    geometry: wp.array(dtype=wp.float32),
    features: wp.array(dtype=wp.float32),
    starts: wp.array(dtype=wp.int32),
    members: wp.array(dtype=wp.int32),
    picture: wp.array(dtype=wp.float32),
    alpha: wp.array(dtype=wp.float32),
    through: wp.array(dtype=wp.float32),
    lasts: wp.array(dtype=wp.int32),
):
    """Blend one pixel; keep what light is left and the end of the list that counted."""
    pixel = start + wp.tid()
    column = pixel % width
    row = pixel / width % height
    view = pixel / (width * height)
    tile = (view * down + row / TILE) * across + column / TILE
    transmittance = wp.float32(1.0)
    total = wp.float32(0.0)
    last = starts[tile]
    for place in range(starts[tile], starts[tile + 1]):
        if transmittance < _STOP:
            break
        item = members[place]
        first = item * GEOMETRY
        x = wp.float32(column) + 0.5 - geometry[first]
        y = wp.float32(row) + 0.5 - geometry[first + 1]
        a = wp.min(alpha_at(geometry, first, x, y), _LARGEST)
        if a >= _LEAST:
            weight = a * transmittance
            transmittance *= 1.0 - a
            total += weight
            for k in range(channels):
                picture[pixel * channels + k] += weight * features[item * channels + k]
            last = place + 1
    alpha[pixel] = total
    through[pixel] = transmittance
    lasts[pixel] = last


@wp.kernel(enable_backward=False)
@no_type_check
def gradient_kernel(
    start: wp.int32,
    channels: wp.int32,
    height: wp.int32,
    width: wp.int32,
    across: wp.int32,
    down: wp.int32,
    geometry: wp.array(dtype=wp.float32),
    features: wp.array(dtype=wp.float32),
    starts: wp.array(dtype=wp.int32),
    members: wp.array(dtype=wp.int32),
    through: wp.array(dtype=wp.float32),
    lasts: wp.array(dtype=wp.int32),
    to_picture: wp.array(dtype=wp.float32),
    to_alpha: wp.array(dtype=wp.float32),
    gradient: wp.array(dtype=wp.float32),
):
    """Add one pixel's gradients: per Gaussian first of its geometry, then of its features."""
    pixel = start + wp.tid()
    column = pixel % width
    row = pixel / width % height
    view = pixel / (width * height)
    tile = (view * down + row / TILE) * across + column / TILE
    transmittance = through[pixel]
    behind = wp.float32(0.0)
    stride = GEOMETRY + channels
    for step in range(lasts[pixel] - starts[tile]):
        item = members[lasts[pixel] - 1 - step]
        first = item * GEOMETRY
        x = wp.float32(column) + 0.5 - geometry[first]
        y = wp.float32(row) + 0.5 - geometry[first + 1]
        raw = alpha_at(geometry, first, x, y)
        a = wp.min(raw, _LARGEST)
        if a >= _LEAST:
            transmittance /= 1.0 - a
            weight = a * transmittance
            q = to_alpha[pixel]
            for k in range(channels):
                upstream = to_picture[pixel * channels + k]
                q += upstream * features[item * channels + k]
                wp.atomic_add(gradient, item * stride + GEOMETRY + k, weight * upstream)
            to_a = transmittance * q - behind / (1.0 - a)
            behind += weight * q
            if raw < _LARGEST:
                to_power = to_a * a
                slope_x = geometry[first + 2] * x + geometry[first + 3] * y
                slope_y = geometry[first + 3] * x + geometry[first + 4] * y
                wp.atomic_add(gradient, item * stride, to_power * slope_x)
                wp.atomic_add(gradient, item * stride + 1, to_power * slope_y)
                wp.atomic_add(gradient, item * stride + 2, -0.5 * to_power * x * x)
                wp.atomic_add(gradient, item * stride + 3, -to_power * x * y)
                wp.atomic_add(gradient, item * stride + 4, -0.5 * to_power * y * y)
                wp.atomic_add(gradient, item * stride + 5, to_a * a / geometry[first + 5])


def _lists(
    geometry: Tensor, order: Tensor, is_visible: Tensor, across: int, down: int
) -> tuple[Tensor, Tensor]:
    """Return where the tiles' lists start (and the last one ends), and their members."""
    batch, gaussians = order.shape
    device = geometry.device
    boxes = torch.empty(batch * gaussians, 4, dtype=torch.int32, device=device)
    inputs = [across, down, geometry.view(-1), is_visible.contiguous().view(-1), boxes]
    launch_split(box_kernel, len(boxes), inputs, device)
    starts = torch.zeros(batch * down * across + 1, dtype=torch.int32, device=device)
    nothing = torch.empty(0, dtype=torch.int32, device=device)
    inputs = [gaussians, across, down, order.view(-1), boxes]
    launch_split(list_kernel, batch * down, [*inputs, starts[1:], nothing], device, grain=1)
    starts = starts.cumsum(dim=0, dtype=torch.int32)
    members = torch.empty(int(starts[-1]), dtype=torch.int32, device=device)
    if len(members):
        ends = starts[:-1].clone()
        launch_split(list_kernel, batch * down, [*inputs, ends, members], device, grain=1)
    return starts, members


class _Blend(Function):
    """Pictures and alpha, with gradients to geometry and features."""

    @staticmethod
    def forward(
        ctx: Any,
        geometry: Tensor,
        features: Tensor,
        order: Tensor,
        is_visible: Tensor,
        height: int,
        width: int,
    ) -> tuple[Tensor, Tensor]:
        batch, _, channels = features.shape
        across, down = -(-width // TILE), -(-height // TILE)
        starts, members = _lists(geometry, order, is_visible, across, down)
        picture = features.new_zeros(batch, height, width, channels)
        alpha = features.new_zeros(batch, height, width, 1)
        through = torch.ones_like(alpha)
        lasts = torch.zeros(alpha.numel(), dtype=torch.int32, device=features.device)
        ctx.sizes = [channels, height, width, across, down]
        inputs = [*ctx.sizes, geometry.view(-1), features.view(-1), starts, members]
        outputs = [picture.view(-1), alpha.view(-1), through.view(-1), lasts]
        launch_split(blend_kernel, alpha.numel(), [*inputs, *outputs], features.device)
        ctx.save_for_backward(geometry, features, starts, members, through, lasts)
        return picture, alpha

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        geometry, features, starts, members, through, lasts = ctx.saved_tensors
        batch, gaussians, channels = features.shape
        inputs = [*ctx.sizes, geometry.view(-1), features.view(-1), starts, members]
        inputs += [through.view(-1), lasts, *(c.contiguous().view(-1) for c in cotangents)]
        gradient = launch_scatter(
            gradient_kernel,
            through.numel(),
            inputs,
            (batch, gaussians, GEOMETRY + channels),
            features.device,
        )
        to_geometry, to_features = gradient.split([GEOMETRY, channels], dim=-1)
        return to_geometry, to_features, None, None, None, None
