# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Warp kernels of the hash encoding, built for each number of features an entry.

Glossary and formulas are those of `dreamlab.ops.hashgrid.encode`. `W_c` is the weight of corner c,
the product over axes of f or 1 - f; `v` a cotangent of the encoding; `u` a vector in point space;
`t` where in its cell a point lies, in [0, 1)^3, of which f is the eased form; `s` a level's scale.

All kernels cut their work alike: one thread takes one level and `chunk` points. Threads of a level
are consecutive, so on a CPU (long chunks) a level's table stays in cache, and on CUDA (chunk 1)
neighbouring threads read neighbouring points. Kernels that write per point are split over points
(`start`, `length` are points); those that write to the table over levels, since the rows of
different levels are disjoint.
"""

import functools
from types import SimpleNamespace
from typing import no_type_check

import warp as wp

from dreamlab.ops import warp_setup  # noqa: F401 - starts Warp

PRIME_Y = wp.constant(wp.uint32(2654435761))
PRIME_Z = wp.constant(wp.uint32(805459861))


@wp.struct
@no_type_check
class Level:
    """One level: its scale, first row, number of rows, and resolution (0 if hashed)."""

    scale: wp.float32
    offset: wp.uint32
    size: wp.uint32
    resolution: wp.uint32


@wp.func
@no_type_check
def read_level(
    index: wp.int32, scales: wp.array(dtype=wp.float32), rows: wp.array(dtype=wp.vec3ui)
) -> Level:
    """Gather what describes a level."""
    level = Level()
    row = rows[index]
    level.scale = scales[index]
    level.offset = row[0]
    level.size = row[1]
    level.resolution = row[2]
    return level


@wp.func
@no_type_check
def share_of(
    thread: wp.int32, start: wp.int32, length: wp.int32, chunk: wp.int32
) -> tuple[wp.int32, wp.int32, wp.int32]:
    """Return what a thread takes of the points [start, start + length): level, first, end."""
    chunks = (length + chunk - 1) // chunk
    level = thread // chunks
    first = start + (thread - level * chunks) * chunk
    return level, first, wp.min(first + chunk, start + length)


@wp.func
@no_type_check
def place_in(point: wp.vec3, scale: wp.float32) -> tuple[wp.vec3ui, wp.vec3]:
    """Return the point's cell, as unsigned integers (negative ones wrap), and t, where in it."""
    position = scale * point + wp.vec3(0.5, 0.5, 0.5)
    x, y, z = wp.floor(position[0]), wp.floor(position[1]), wp.floor(position[2])
    cell = wp.vec3ui(wp.uint32(wp.int32(x)), wp.uint32(wp.int32(y)), wp.uint32(wp.int32(z)))
    return cell, position - wp.vec3(x, y, z)


@wp.func
@no_type_check
def corner_row(corner: wp.int32, cell: wp.vec3ui, level: Level) -> wp.int32:
    """Return the table row of a corner; bits 0, 1, 2 of `corner` step along x, y, z."""
    x = cell[0] + wp.uint32(corner & 1)
    y = cell[1] + wp.uint32((corner >> 1) & 1)
    z = cell[2] + wp.uint32((corner >> 2) & 1)
    if level.resolution > wp.uint32(0):
        index = x + level.resolution * (y + level.resolution * z)
        if index >= level.size:
            index = index % level.size
        return wp.int32(level.offset + index)
    index = (x ^ (y * PRIME_Y) ^ (z * PRIME_Z)) & (level.size - wp.uint32(1))
    return wp.int32(level.offset + index)


@wp.func
@no_type_check
def side(corner: wp.int32, axis: wp.int32, f: wp.float32) -> wp.float32:
    """Return the weight along one axis, f on the upper side and 1 - f on the lower one."""
    return wp.where(((corner >> axis) & 1) == 1, f, 1.0 - f)


@wp.func
@no_type_check
def sign(corner: wp.int32, axis: wp.int32) -> wp.float32:
    """Return the derivative of `side` by f."""
    return wp.where(((corner >> axis) & 1) == 1, 1.0, -1.0)


@wp.func
@no_type_check
def corner_weight(corner: wp.int32, f: wp.vec3) -> wp.float32:
    """Return W_c."""
    return side(corner, 0, f[0]) * side(corner, 1, f[1]) * side(corner, 2, f[2])


@wp.func
@no_type_check
def corner_slope(corner: wp.int32, f: wp.vec3) -> wp.vec3:
    """Return the gradient of W_c by f."""
    x, y, z = side(corner, 0, f[0]), side(corner, 1, f[1]), side(corner, 2, f[2])
    return wp.vec3(sign(corner, 0) * y * z, sign(corner, 1) * x * z, sign(corner, 2) * x * y)


@wp.func
@no_type_check
def corner_twist(corner: wp.int32, f: wp.vec3) -> wp.vec3:
    """Return the mixed second derivatives of W_c by f: yz, xz, xy (the pure ones are 0)."""
    a, b, c = sign(corner, 0), sign(corner, 1), sign(corner, 2)
    return wp.vec3(
        b * c * side(corner, 0, f[0]), a * c * side(corner, 1, f[1]), a * b * side(corner, 2, f[2])
    )


@wp.func
@no_type_check
def ease(t: wp.vec3, smooth: wp.int32) -> wp.vec3:
    """Return f(t): t itself, or smoothstep 3 t^2 - 2 t^3."""
    if smooth == 1:
        s = wp.cw_mul(t, t)
        return 3.0 * s - 2.0 * wp.cw_mul(s, t)
    return t


@wp.func
@no_type_check
def ease_slope(t: wp.vec3, scale: wp.float32, smooth: wp.int32) -> wp.vec3:
    """Return the derivative of f by the point, s f'(t)."""
    if smooth == 1:
        return (6.0 * scale) * (t - wp.cw_mul(t, t))
    return wp.vec3(scale, scale, scale)


@wp.func
@no_type_check
def ease_bend(t: wp.vec3, scale: wp.float32, smooth: wp.int32) -> wp.vec3:
    """Return the second derivative of f by the point, s^2 f''(t)."""
    if smooth == 1:
        return (scale * scale) * (wp.vec3(6.0, 6.0, 6.0) - 12.0 * t)
    return wp.vec3(0.0, 0.0, 0.0)


@functools.cache
@no_type_check
def first_order(num_features: int) -> SimpleNamespace:
    """Build `encode`, `table_gradient` and `point_gradient` for F features an entry."""
    module = wp.get_module(f"dreamlab_hashgrid_{num_features}")
    features = wp.types.vector(num_features, wp.float32)

    @wp.kernel(enable_backward=False, module=module)
    def encode(
        start: wp.int32,
        length: wp.int32,
        chunk: wp.int32,
        num_levels: wp.int32,
        smooth: wp.int32,
        scales: wp.array(dtype=wp.float32),
        rows: wp.array(dtype=wp.vec3ui),
        points: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=features),
        output: wp.array(dtype=features),
    ):
        index, first, end = share_of(wp.tid(), start, length, chunk)
        level = read_level(index, scales, rows)
        for i in range(first, end):
            cell, t = place_in(points[i], level.scale)
            f = ease(t, smooth)
            value = features()
            for corner in range(8):
                value += corner_weight(corner, f) * table[corner_row(corner, cell, level)]
            output[i * num_levels + index] = value

    @wp.kernel(enable_backward=False, module=module)
    def table_gradient(
        start: wp.int32,
        length: wp.int32,
        chunk: wp.int32,
        num_levels: wp.int32,
        num_points: wp.int32,
        smooth: wp.int32,
        scales: wp.array(dtype=wp.float32),
        rows: wp.array(dtype=wp.vec3ui),
        points: wp.array(dtype=wp.vec3),
        cotangent: wp.array(dtype=features),
        output: wp.array(dtype=features),
    ):
        index, first, end = share_of(wp.tid(), 0, num_points, chunk)
        index += start
        level = read_level(index, scales, rows)
        for i in range(first, end):
            cell, t = place_in(points[i], level.scale)
            f = ease(t, smooth)
            v = cotangent[i * num_levels + index]
            for corner in range(8):
                wp.atomic_add(output, corner_row(corner, cell, level), corner_weight(corner, f) * v)

    @wp.kernel(enable_backward=False, module=module)
    def point_gradient(
        start: wp.int32,
        length: wp.int32,
        chunk: wp.int32,
        num_levels: wp.int32,
        smooth: wp.int32,
        scales: wp.array(dtype=wp.float32),
        rows: wp.array(dtype=wp.vec3ui),
        points: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=features),
        cotangent: wp.array(dtype=features),
        output: wp.array(dtype=wp.vec3),
    ):
        index, first, end = share_of(wp.tid(), start, length, chunk)
        level = read_level(index, scales, rows)
        for i in range(first, end):
            cell, t = place_in(points[i], level.scale)
            f = ease(t, smooth)
            v = cotangent[i * num_levels + index]
            slope = wp.vec3()
            for corner in range(8):
                row = corner_row(corner, cell, level)
                slope += corner_slope(corner, f) * wp.dot(v, table[row])
            wp.atomic_add(output, i, wp.cw_mul(ease_slope(t, level.scale, smooth), slope))

    return SimpleNamespace(
        encode=encode, table_gradient=table_gradient, point_gradient=point_gradient
    )


@functools.cache
@no_type_check
def second_order(num_features: int) -> SimpleNamespace:
    """Build the derivatives of `point_gradient` . u by its inputs, for F features an entry.

    `directional` (by the cotangent) is the derivative of the encoding along u;
    `directional_table_gradient` (by the table) is the adjoint of that; `point_hessian` (by the
    points) is the Hessian of v . encoding times u.
    """
    module = wp.get_module(f"dreamlab_hashgrid_second_{num_features}")
    features = wp.types.vector(num_features, wp.float32)

    @wp.kernel(enable_backward=False, module=module)
    def directional(
        start: wp.int32,
        length: wp.int32,
        chunk: wp.int32,
        num_levels: wp.int32,
        smooth: wp.int32,
        scales: wp.array(dtype=wp.float32),
        rows: wp.array(dtype=wp.vec3ui),
        points: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=features),
        direction: wp.array(dtype=wp.vec3),
        output: wp.array(dtype=features),
    ):
        index, first, end = share_of(wp.tid(), start, length, chunk)
        level = read_level(index, scales, rows)
        for i in range(first, end):
            cell, t = place_in(points[i], level.scale)
            f = ease(t, smooth)
            u = wp.cw_mul(ease_slope(t, level.scale, smooth), direction[i])
            value = features()
            for corner in range(8):
                row = corner_row(corner, cell, level)
                value += wp.dot(corner_slope(corner, f), u) * table[row]
            output[i * num_levels + index] = value

    @wp.kernel(enable_backward=False, module=module)
    def directional_table_gradient(
        start: wp.int32,
        length: wp.int32,
        chunk: wp.int32,
        num_levels: wp.int32,
        num_points: wp.int32,
        smooth: wp.int32,
        scales: wp.array(dtype=wp.float32),
        rows: wp.array(dtype=wp.vec3ui),
        points: wp.array(dtype=wp.vec3),
        direction: wp.array(dtype=wp.vec3),
        cotangent: wp.array(dtype=features),
        output: wp.array(dtype=features),
    ):
        index, first, end = share_of(wp.tid(), 0, num_points, chunk)
        index += start
        level = read_level(index, scales, rows)
        for i in range(first, end):
            cell, t = place_in(points[i], level.scale)
            f = ease(t, smooth)
            u = wp.cw_mul(ease_slope(t, level.scale, smooth), direction[i])
            v = cotangent[i * num_levels + index]
            for corner in range(8):
                row = corner_row(corner, cell, level)
                wp.atomic_add(output, row, wp.dot(corner_slope(corner, f), u) * v)

    @wp.kernel(enable_backward=False, module=module)
    def point_hessian(
        start: wp.int32,
        length: wp.int32,
        chunk: wp.int32,
        num_levels: wp.int32,
        smooth: wp.int32,
        scales: wp.array(dtype=wp.float32),
        rows: wp.array(dtype=wp.vec3ui),
        points: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=features),
        direction: wp.array(dtype=wp.vec3),
        cotangent: wp.array(dtype=features),
        output: wp.array(dtype=wp.vec3),
    ):
        index, first, end = share_of(wp.tid(), start, length, chunk)
        level = read_level(index, scales, rows)
        for i in range(first, end):
            cell, t = place_in(points[i], level.scale)
            f = ease(t, smooth)
            slope_f = ease_slope(t, level.scale, smooth)
            bend_f = ease_bend(t, level.scale, smooth)
            v = cotangent[i * num_levels + index]
            slope = wp.vec3()
            twist = wp.vec3()
            for corner in range(8):
                value = wp.dot(v, table[corner_row(corner, cell, level)])
                slope += value * corner_slope(corner, f)
                twist += value * corner_twist(corner, f)
            d = direction[i]
            u = wp.cw_mul(slope_f, d)
            mixed = wp.vec3(
                twist[2] * u[1] + twist[1] * u[2],
                twist[2] * u[0] + twist[0] * u[2],
                twist[1] * u[0] + twist[0] * u[1],
            )
            pure = wp.cw_mul(wp.cw_mul(bend_f, slope), d)
            wp.atomic_add(output, i, wp.cw_mul(slope_f, mixed) + pure)

    return SimpleNamespace(
        directional=directional,
        directional_table_gradient=directional_table_gradient,
        point_hessian=point_hessian,
    )
