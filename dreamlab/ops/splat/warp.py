# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Splatting on Warp kernels, with the backward pass by hand.

Formulas and names are those of `dreamlab.ops.splat.splat`. The picture is cut into tiles. A tile's
list holds, nearest first, the Gaussians whose box touches it; lists are filled row of tiles by row
of tiles, each in the order of distance, so no lists are sorted and no two threads share one.

A thread owns a square block of pixels and goes through the list of the tile that the block lies in,
drawing each Gaussian only where its alpha may reach 1/255, the ellipse d^2 <= r with
r = (2 log(255 o))^(2/beta), beta being 2 for Gaussians. With Q = (a, b, c), det = a c - b^2 and
(x, y) counted from the mean, that is

    |y| <= sqrt(r a / det),   |x + b y / a| <= sqrt(r a - det y^2) / a   in the row at y.

On a CPU a block is a whole tile, so the work is that of the pixels covered and each Gaussian's
gradients are summed in registers; on CUDA it is one pixel, so that there are enough threads.

With q_i = dL/dw_i, the sum of what features and alpha send back to the weight, and B_i the sum of
w_j q_j over what lies behind i,

    dL/da_i = T_i q_i - B_i / (1 - a_i),   dL/df_i = w_i dL/dfeatures.

With P = (d^2)^(beta/2), da = -a/2 dP, dP/d(d^2) = beta/2 P / d^2 and dP/dbeta = P/2 log d^2.
The backward kernel walks the list from its end to the front, each pixel from its last contribution.
"""

from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import warp as wp
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dreamlab.ops.splat.project import Projected
from dreamlab.ops.splat.splat import EARLY_STOP, MAX_ALPHA, MIN_ALPHA, SQUARE_RANGE
from dreamlab.ops.warp_setup import launch_scatter, launch_split, runs_in_turn

wp.set_module_options({"enable_backward": False})

IN_TURN, SIDE_BY_SIDE = (16, 16), (8, 1)
"""Sides of a tile and of a thread's block, which divides it, pixels: by how threads run."""
GEOMETRY = 7
"""Numbers of a Gaussian that its alpha depends on: mean (2), conic (3), opacity, shape."""
SLACK = 0.01
"""Pixels by which ellipses are drawn larger, so that rounding loses nothing."""
Geometry = wp.types.vector(length=GEOMETRY, dtype=wp.float32)
_LARGEST = wp.constant(wp.float32(MAX_ALPHA))
_LEAST = wp.constant(wp.float32(MIN_ALPHA))
_STOP = wp.constant(wp.float32(EARLY_STOP))
_MIDDLE = wp.constant(wp.float32(SQUARE_RANGE[0]))
_FAR = wp.constant(wp.float32(SQUARE_RANGE[1]))


def blend(projected: Projected, features: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Blend; see `dreamlab.ops.splat.splat.splat`."""
    shape = projected.shape
    is_shaped = shape is not None
    if shape is None:
        shape = torch.full_like(projected.opacity, 2.0)
    parts = [projected.mean, projected.conic, projected.opacity[..., None], shape[..., None]]
    geometry = torch.cat(parts, dim=-1).contiguous()
    order = projected.distance.detach().argsort(dim=1, stable=True).int()
    inputs = (geometry, features.contiguous(), order, projected.is_visible)
    return _Blend.apply(*inputs, is_shaped, height, width)


@wp.func
@no_type_check
def square_at(g: Geometry, x: wp.float32, y: wp.float32):
    """Return the squared distance from the mean, in standard deviations."""
    return g[2] * x * x + g[4] * y * y + 2.0 * g[3] * x * y


@wp.func
@no_type_check
def shaped_power(square: wp.float32, shape: wp.float32):
    """Return (d^2)^(beta / 2), held where it and its derivatives are finite."""
    return wp.pow(wp.clamp(square, _MIDDLE, _FAR), 0.5 * shape)


@wp.func
@no_type_check
def whole_range(low: wp.float32, high: wp.float32, first: wp.int32, end: wp.int32):
    """Return the pixels of [first, end) whose centres lie between two coordinates, as a range."""
    begin = wp.clamp(low + 0.5 - SLACK, wp.float32(first), wp.float32(end))
    stop = wp.clamp(high + 0.5 + SLACK, wp.float32(first), wp.float32(end))
    return wp.vec2i(wp.int32(begin), wp.int32(stop))


@wp.func
@no_type_check
def row_range(g: Geometry, reach: wp.float32, first: wp.int32, end: wp.int32):
    """Return the rows of [first, end) that the ellipse touches."""
    half = wp.sqrt(reach * g[2] / (g[2] * g[4] - g[3] * g[3]))
    return whole_range(g[1] - half, g[1] + half, first, end)


@wp.func
@no_type_check
def column_range(g: Geometry, reach: wp.float32, y: wp.float32, first: wp.int32, end: wp.int32):
    """Return the columns of [first, end) that the ellipse covers at y from its mean."""
    square = reach * g[2] - (g[2] * g[4] - g[3] * g[3]) * y * y
    half = wp.sqrt(wp.max(square, 0.0)) / g[2]
    middle = g[0] - g[3] * y / g[2]
    return whole_range(middle - half, middle + half, first, end)


@wp.func
@no_type_check
def block_of(item: wp.int32, side: wp.int32, height: wp.int32, width: wp.int32):
    """Return top row, left column and view of a block."""
    across = (width + side - 1) / side
    down = (height + side - 1) / side
    return wp.vec3i(item / across % down * side, item % across * side, item / (across * down))


@wp.kernel(enable_backward=False)
@no_type_check
def box_kernel(
    start: wp.int32,
    is_shaped: wp.bool,
    tile: wp.int32,
    across: wp.int32,
    down: wp.int32,
    geometry: wp.array(dtype=Geometry),
    is_visible: wp.array(dtype=wp.bool),
    boxes: wp.array(dtype=wp.vec4i),
    reach: wp.array(dtype=wp.float32),
):
    """Store r and first and last tile column, first and last tile row of every Gaussian."""
    item = start + wp.tid()
    g = geometry[item]
    box = wp.vec4i(0, -1, 0, -1)
    r = wp.float32(0.0)
    if is_visible[item] and g[5] >= _LEAST:
        r = 2.0 * wp.log(g[5] / _LEAST)
        if is_shaped:
            r = wp.pow(r, 2.0 / g[6])
        half = wp.sqrt(r * g[4] / (g[2] * g[4] - g[3] * g[3]))
        columns = whole_range(g[0] - half, g[0] + half, 0, across * tile)
        rows = row_range(g, r, 0, down * tile)
        if columns[0] < columns[1] and rows[0] < rows[1]:
            box = wp.vec4i(
                columns[0] / tile, (columns[1] - 1) / tile, rows[0] / tile, (rows[1] - 1) / tile
            )
    boxes[item] = box
    reach[item] = r


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
    is_shaped: wp.bool,
    channels: wp.int32,
    height: wp.int32,
    width: wp.int32,
    tile: wp.int32,
    block: wp.int32,
    across: wp.int32,
    down: wp.int32,
    geometry: wp.array(dtype=Geometry),
    reach: wp.array(dtype=wp.float32),
    features: wp.array(dtype=wp.float32),
    starts: wp.array(dtype=wp.int32),
    members: wp.array(dtype=wp.int32),
    picture: wp.array(dtype=wp.float32),
    alpha: wp.array(dtype=wp.float32),
    through: wp.array(dtype=wp.float32),
    lasts: wp.array(dtype=wp.int32),
):
    """Blend a block; keep what light is left and the end of the list that counted."""
    corner = block_of(start + wp.tid(), block, height, width)
    bottom = wp.min(corner[0] + block, height)
    right = wp.min(corner[1] + block, width)
    own = (corner[2] * down + corner[0] / tile) * across + corner[1] / tile
    still_open = (bottom - corner[0]) * (right - corner[1])
    for place in range(starts[own], starts[own + 1]):
        if still_open == 0:
            break
        item = members[place]
        g = geometry[item]
        rows = row_range(g, reach[item], corner[0], bottom)
        row = wp.int32(rows[0])
        while row < rows[1]:
            y = wp.float32(row) + 0.5 - g[1]
            columns = column_range(g, reach[item], y, corner[1], right)
            column = wp.int32(columns[0])
            while column < columns[1]:
                pixel = (corner[2] * height + row) * width + column
                transmittance = through[pixel]
                power = square_at(g, wp.float32(column) + 0.5 - g[0], y)
                if is_shaped:
                    power = shaped_power(power, g[6])
                a = wp.min(g[5] * wp.exp(-0.5 * power), _LARGEST)
                if a >= _LEAST and transmittance >= _STOP:
                    weight = a * transmittance
                    alpha[pixel] = alpha[pixel] + weight
                    k = wp.int32(0)
                    while k < channels:
                        picture[pixel * channels + k] += weight * features[item * channels + k]
                        k += 1
                    transmittance *= 1.0 - a
                    if transmittance < _STOP:
                        still_open -= 1
                    through[pixel] = transmittance
                    lasts[pixel] = place + 1
                column += 1
            row += 1


@wp.kernel(enable_backward=False)
@no_type_check
def gradient_kernel(
    start: wp.int32,
    is_shaped: wp.bool,
    channels: wp.int32,
    height: wp.int32,
    width: wp.int32,
    tile: wp.int32,
    block: wp.int32,
    across: wp.int32,
    down: wp.int32,
    geometry: wp.array(dtype=Geometry),
    reach: wp.array(dtype=wp.float32),
    features: wp.array(dtype=wp.float32),
    starts: wp.array(dtype=wp.int32),
    members: wp.array(dtype=wp.int32),
    lasts: wp.array(dtype=wp.int32),
    to_picture: wp.array(dtype=wp.float32),
    to_alpha: wp.array(dtype=wp.float32),
    through: wp.array(dtype=wp.float32),
    behind: wp.array(dtype=wp.float32),
    gradient: wp.array(dtype=wp.float32),
):
    """Add a block's gradients: per Gaussian first of its geometry, then of its features.

    `through` begins as the light that was left and ends as 1; `behind` holds each pixel's B.
    """
    corner = block_of(start + wp.tid(), block, height, width)
    bottom = wp.min(corner[0] + block, height)
    right = wp.min(corner[1] + block, width)
    own = (corner[2] * down + corner[0] / tile) * across + corner[1] / tile
    stride = GEOMETRY + channels
    for step in range(starts[own + 1] - starts[own]):
        place = starts[own + 1] - 1 - step
        item = members[place]
        g = geometry[item]
        total = Geometry()
        rows = row_range(g, reach[item], corner[0], bottom)
        row = wp.int32(rows[0])
        while row < rows[1]:
            y = wp.float32(row) + 0.5 - g[1]
            columns = column_range(g, reach[item], y, corner[1], right)
            column = wp.int32(columns[0])
            while column < columns[1]:
                pixel = (corner[2] * height + row) * width + column
                x = wp.float32(column) + 0.5 - g[0]
                square = square_at(g, x, y)
                power = square
                if is_shaped:
                    power = shaped_power(square, g[6])
                raw = g[5] * wp.exp(-0.5 * power)
                a = wp.min(raw, _LARGEST)
                if a >= _LEAST and place < lasts[pixel]:
                    transmittance = through[pixel] / (1.0 - a)
                    weight = a * transmittance
                    q = to_alpha[pixel]
                    k = wp.int32(0)
                    while k < channels:
                        upstream = to_picture[pixel * channels + k]
                        q += upstream * features[item * channels + k]
                        wp.atomic_add(gradient, item * stride + GEOMETRY + k, weight * upstream)
                        k += 1
                    to_a = transmittance * q - behind[pixel] / (1.0 - a)
                    behind[pixel] = behind[pixel] + weight * q
                    through[pixel] = transmittance
                    if raw < _LARGEST:
                        to_power = -0.5 * to_a * a
                        to_square = to_power
                        if is_shaped:
                            held = wp.clamp(square, _MIDDLE, _FAR)
                            total[6] += 0.5 * to_power * power * wp.log(held)
                            to_square = 0.5 * to_power * g[6] * power / held
                            if held != square:
                                to_square = 0.0
                        total += to_square * Geometry(
                            -2.0 * (g[2] * x + g[3] * y),
                            -2.0 * (g[3] * x + g[4] * y),
                            x * x,
                            2.0 * x * y,
                            y * y,
                            0.0,
                            0.0,
                        )
                        total[5] += to_a * a / g[5]
                column += 1
            row += 1
        for k in range(GEOMETRY):
            wp.atomic_add(gradient, item * stride + k, total[k])


@dataclass(frozen=True)
class _Layout:
    """Sizes of a picture and how it is cut up; `numbers` in the order that the kernels take."""

    is_shaped: bool
    batch: int
    channels: int
    height: int
    width: int
    tile: int
    block: int

    @property
    def across(self) -> int:
        return -(-self.width // self.tile)

    @property
    def down(self) -> int:
        return -(-self.height // self.tile)

    @property
    def blocks(self) -> int:
        return self.batch * -(-self.width // self.block) * -(-self.height // self.block)

    @property
    def numbers(self) -> list[int]:
        sizes = [self.is_shaped, self.channels, self.height, self.width, self.tile, self.block]
        return [*sizes, self.across, self.down]


def _lists(
    geometry: Tensor, order: Tensor, is_visible: Tensor, layout: _Layout
) -> tuple[Tensor, Tensor, Tensor]:
    """Return every r, where the tiles' lists start (and the last one ends), and their members."""
    batch, gaussians = order.shape
    device = geometry.device
    across, rows = layout.across, batch * layout.down
    boxes = torch.empty(batch * gaussians, 4, dtype=torch.int32, device=device)
    reach = geometry.new_empty(batch * gaussians)
    inputs = [layout.is_shaped, layout.tile, across, layout.down, geometry]
    inputs += [is_visible.contiguous().view(-1), boxes, reach]
    launch_split(box_kernel, len(boxes), inputs, device)
    starts = torch.zeros(rows * across + 1, dtype=torch.int32, device=device)
    nothing = torch.empty(0, dtype=torch.int32, device=device)
    inputs = [gaussians, across, layout.down, order.view(-1), boxes]
    launch_split(list_kernel, rows, [*inputs, starts[1:], nothing], device, grain=1)
    starts = starts.cumsum(dim=0, dtype=torch.int32)
    members = torch.empty(int(starts[-1]), dtype=torch.int32, device=device)
    if len(members):
        ends = starts[:-1].clone()
        launch_split(list_kernel, rows, [*inputs, ends, members], device, grain=1)
    return reach, starts, members


class _Blend(Function):
    """Pictures and alpha, with gradients to geometry and features."""

    @staticmethod
    def forward(
        ctx: Any,
        geometry: Tensor,
        features: Tensor,
        order: Tensor,
        is_visible: Tensor,
        is_shaped: bool,
        height: int,
        width: int,
    ) -> tuple[Tensor, Tensor]:
        batch, _, channels = features.shape
        sides = IN_TURN if runs_in_turn(features.device) else SIDE_BY_SIDE
        layout = _Layout(is_shaped, batch, channels, height, width, *sides)
        reach, starts, members = _lists(geometry, order, is_visible, layout)
        picture = features.new_zeros(batch, height, width, channels)
        alpha = features.new_zeros(batch, height, width, 1)
        through = torch.ones_like(alpha)
        lasts = torch.zeros(alpha.numel(), dtype=torch.int32, device=features.device)
        inputs = [*layout.numbers, geometry, reach, features.view(-1), starts, members]
        outputs = [picture.view(-1), alpha.view(-1), through.view(-1), lasts]
        launch_split(blend_kernel, layout.blocks, [*inputs, *outputs], features.device, grain=1)
        ctx.layout = layout
        ctx.save_for_backward(geometry, reach, features, starts, members, lasts, through)
        return picture, alpha

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        geometry, reach, features, starts, members, lasts, through = ctx.saved_tensors
        batch, gaussians, channels = features.shape
        inputs = [*ctx.layout.numbers, geometry, reach, features.view(-1), starts, members, lasts]
        inputs += [c.contiguous().view(-1) for c in cotangents]
        inputs += [through.flatten().clone(), torch.zeros_like(through).view(-1)]
        gradient = launch_scatter(
            gradient_kernel,
            ctx.layout.blocks,
            inputs,
            (batch, gaussians, GEOMETRY + channels),
            features.device,
            grain=1,
        )
        to_geometry, to_features = gradient.split([GEOMETRY, channels], dim=-1)
        return to_geometry, to_features, None, None, None, None, None
