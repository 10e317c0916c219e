"""The compiled half of the toybox: albedo with patterns, ray casting, distances at points.

`Parts` is a batch of scenes flattened to primitives. Part k of scene s is `start[s] + k`; a point x
of the world is `to_local[i] @ (x - center[i])` in the part's frame. Lengths are world units.

Patterns are functions of the position relative to the item's origin, so they move with the item,
and have a fixed period in world units, so they are equally readable on every object:

    striped: bands along the direction (1, 1, 1.4) / |.|, which crosses every face of a box
    checkered: squares of side `CHECK` on the coordinate plane that the normal faces most
    dotted: a triangular lattice of dots on the same plane
"""

# Warp describes arrays by calls in annotations, which type checkers do not accept.
# pyright: reportInvalidTypeForm=false

from typing import no_type_check

import warp as wp

from dreamlab.priors.toybox.world.primitives import shape_distance

wp.set_module_options({"enable_backward": False})

STRIPE = wp.constant(0.30)
CHECK = wp.constant(0.22)
DOT = wp.constant(0.27)
FAR = wp.constant(1.0e6)
HIT = wp.constant(4.0e-4)


@wp.struct
@no_type_check
class Parts:
    start: wp.array(dtype=wp.int32)
    shape: wp.array(dtype=wp.int32)
    center: wp.array(dtype=wp.vec3)
    to_local: wp.array(dtype=wp.mat33)
    size: wp.array(dtype=wp.vec3)
    ratio: wp.array(dtype=wp.float32)
    reach: wp.array(dtype=wp.float32)
    color: wp.array(dtype=wp.vec3)
    partner: wp.array(dtype=wp.vec3)
    pattern: wp.array(dtype=wp.int32)
    anchor: wp.array(dtype=wp.vec3)


@wp.func
@no_type_check
def face_plane(q: wp.vec3, n: wp.vec3) -> wp.vec2:
    """Coordinates of `q` on the coordinate plane that the normal `n` faces most."""
    a = wp.vec3(wp.abs(n[0]), wp.abs(n[1]), wp.abs(n[2]))
    if a[2] >= a[0] and a[2] >= a[1]:
        return wp.vec2(q[0], q[1])
    if a[0] >= a[1]:
        return wp.vec2(q[1], q[2])
    return wp.vec2(q[0], q[2])


@wp.func
@no_type_check
def in_pattern(pattern: int, q: wp.vec3, n: wp.vec3) -> bool:
    """Whether the partner colour covers the point `q` (relative to the item) with normal `n`."""
    if pattern == 1:
        c = (q[0] + q[1] + 1.4 * q[2]) / (1.9899749 * STRIPE)
        return c - wp.floor(c) > 0.5
    uv = face_plane(q, n)
    if pattern == 2:
        cell = wp.int32(wp.floor(uv[0] / CHECK)) + wp.int32(wp.floor(uv[1] / CHECK))
        return (cell & 1) == 1
    row = wp.floor(uv[1] / (DOT * 0.8660254) + 0.5)
    u = uv[0] / DOT + 0.5 * row
    u = (u - wp.floor(u + 0.5)) * DOT
    v = uv[1] - row * DOT * 0.8660254
    return u * u + v * v < 0.09 * DOT * DOT


@wp.func
@no_type_check
def albedo(parts: Parts, i: int, x: wp.vec3, n: wp.vec3) -> wp.vec3:
    """SRGB albedo of part `i` at the surface point `x` with the world normal `n`."""
    pattern = parts.pattern[i]
    if pattern > 0:
        if in_pattern(pattern, x - parts.anchor[i], n):
            return parts.partner[i]
    return parts.color[i]


@wp.func
@no_type_check
def part_distance(parts: Parts, i: int, x: wp.vec3) -> float:
    q = parts.to_local[i] * (x - parts.center[i])
    return shape_distance(parts.shape[i], q, parts.size[i], parts.ratio[i])


@wp.func
@no_type_check
def part_normal(parts: Parts, i: int, x: wp.vec3) -> wp.vec3:
    """Outward world normal of part `i` by central differences."""
    q = parts.to_local[i] * (x - parts.center[i])
    shape = parts.shape[i]
    size = parts.size[i]
    ratio = parts.ratio[i]
    g = wp.vec3(0.0, 0.0, 0.0)
    for axis in range(3):
        step = wp.vec3(0.0, 0.0, 0.0)
        step[axis] = 1.0e-3
        g[axis] = shape_distance(shape, q + step, size, ratio) - shape_distance(
            shape, q - step, size, ratio
        )
    return wp.normalize(wp.transpose(parts.to_local[i]) * g)


@wp.func
@no_type_check
def cast_part(parts: Parts, i: int, origin: wp.vec3, direction: wp.vec3, limit: float) -> float:
    """Distance along the ray to part `i`, or `FAR` if it is missed or lies beyond `limit`.

    The ray is cut to the part's bounding sphere and box, then sphere traced in the part's frame.
    """
    offset = parts.center[i] - origin
    along = wp.dot(offset, direction)
    reach = parts.reach[i]
    if wp.dot(offset, offset) - along * along > reach * reach or along - reach > limit:
        return FAR
    o = -(parts.to_local[i] * offset)
    d = parts.to_local[i] * direction
    size = parts.size[i]
    near = wp.float32(0.0)
    far = wp.float32(limit)
    for axis in range(3):
        slope = d[axis]
        if wp.abs(slope) < 1.0e-7:
            slope = 1.0e-7
        a = (-size[axis] - o[axis]) / slope
        b = (size[axis] - o[axis]) / slope
        near = wp.max(near, wp.min(a, b))
        far = wp.min(far, wp.max(a, b))
    if near > far:
        return FAR
    shape = parts.shape[i]
    if shape == 1:
        return near
    ratio = parts.ratio[i]
    t = near
    for _ in range(64):
        distance = shape_distance(shape, o + t * d, size, ratio)
        if distance < HIT:
            return t
        t += distance
        if t > far:
            return FAR
    return FAR


@wp.kernel
@no_type_check
def trace_pixels(
    start: int,
    parts: Parts,
    scene: wp.array(dtype=wp.int32),
    pose: wp.array(dtype=wp.mat44),
    tangent: wp.array(dtype=wp.float32),
    light: wp.array(dtype=wp.vec3),
    ambient: wp.array(dtype=wp.float32),
    background: wp.array(dtype=wp.vec3),
    size: int,
    samples: int,
    rgb: wp.array(dtype=wp.vec3),
    alpha: wp.array(dtype=wp.float32),
    normal: wp.array(dtype=wp.vec3),
    depth: wp.array(dtype=wp.float32),
):
    """Average `samples`^2 shaded rays per pixel; one index is one pixel of one image."""
    pixel = start + wp.tid()
    image = pixel // (size * size)
    row = (pixel // size) % size
    column = pixel % size
    first = parts.start[scene[image]]
    last = parts.start[scene[image] + 1]
    m = pose[image]
    origin = wp.vec3(m[0, 3], m[1, 3], m[2, 3])
    grid = float(size * samples)
    color_sum = wp.vec3(0.0, 0.0, 0.0)
    normal_sum = wp.vec3(0.0, 0.0, 0.0)
    depth_sum = wp.float32(0.0)
    hits = wp.int32(0)
    for k in range(samples * samples):
        x = float(column * samples + k % samples) + 0.5
        y = float(row * samples + k // samples) + 0.5
        cx = (2.0 * x / grid - 1.0) * tangent[image]
        cy = (1.0 - 2.0 * y / grid) * tangent[image]
        ray = wp.normalize(
            wp.vec3(
                m[0, 0] * cx + m[0, 1] * cy - m[0, 2],
                m[1, 0] * cx + m[1, 1] * cy - m[1, 2],
                m[2, 0] * cx + m[2, 1] * cy - m[2, 2],
            )
        )
        best = wp.float32(FAR)
        hit = wp.int32(-1)
        for i in range(first, last):
            t = cast_part(parts, i, origin, ray, best)
            if t < best:
                best = t
                hit = i
        if hit >= 0:
            point = origin + best * ray
            n = part_normal(parts, hit, point)
            lambert = wp.max(wp.dot(n, light[image]), 0.0)
            shade = ambient[image] + (1.0 - ambient[image]) * lambert
            color_sum += albedo(parts, hit, point, n) * shade
            normal_sum += n
            depth_sum += best
            hits += 1
    total = float(samples * samples)
    covered = float(hits) / total
    rgb[pixel] = color_sum / total + background[image] * (1.0 - covered)
    alpha[pixel] = covered
    normal[pixel] = normal_sum / total
    depth[pixel] = depth_sum / total


@wp.kernel
@no_type_check
def scene_distances(
    start: int,
    parts: Parts,
    points: wp.array(dtype=wp.vec3),
    distance: wp.array(dtype=wp.float32),
):
    """Signed distance bound of the union of all parts of scene 0 at every point."""
    j = start + wp.tid()
    best = wp.float32(FAR)
    for i in range(parts.start[0], parts.start[1]):
        best = wp.min(best, part_distance(parts, i, points[j]))
    distance[j] = best


@wp.kernel
@no_type_check
def scene_surface(
    start: int,
    parts: Parts,
    points: wp.array(dtype=wp.vec3),
    color: wp.array(dtype=wp.vec3),
    normal: wp.array(dtype=wp.vec3),
):
    """Albedo and outward normal of scene 0 at points on its surface."""
    j = start + wp.tid()
    best = wp.float32(FAR)
    hit = wp.int32(0)
    for i in range(parts.start[0], parts.start[1]):
        distance = part_distance(parts, i, points[j])
        if distance < best:
            best = distance
            hit = i
    n = part_normal(parts, hit, points[j])
    normal[j] = n
    color[j] = albedo(parts, hit, points[j], n)
