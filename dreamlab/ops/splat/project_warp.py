# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Projection on Warp kernels, with the backward pass by hand.

Formulas and names are those of `dreamlab.ops.splat.project`, with M = R diag(s), t_u and t_v the
rows of J V, u = M^T t_u and v = M^T t_v, so that C = [[u.u, u.v], [u.v, v.v]] + D I. Backward, from
the conic Q = C^-1 with dL/dQ as the symmetric matrix G, and from the factor that opacities get,
k = sqrt(det (C - D I) / det C),

    dL/dC = -Q G Q + dL/dk k / 2 ((C - D I)^-1 - C^-1),
    dL/du = 2 (dL/dC)_00 u + 2 (dL/dC)_01 v,   dL/dM = t_u (dL/du)^T + t_v (dL/dv)^T,

and likewise for v. A thread owns a Gaussian, whose gradients it sums over the views.
"""

from typing import Any, no_type_check

import torch
import warp as wp
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dreamlab.ops.splat.project import LEAST_KEPT, LOW_PASS, NEAR, Lens, Projected
from dreamlab.ops.warp_setup import launch_split

wp.set_module_options({"enable_backward": False})


def project(
    means: Tensor, quaternions: Tensor, scales: Tensor, opacities: Tensor, lens: Lens
) -> Projected:
    """Project; see `dreamlab.ops.splat.project.project`."""
    parts = [part.contiguous() for part in (means, quaternions, scales, opacities)]
    views = [lens.position.contiguous(), lens.axes.contiguous(), lens.intrinsics.contiguous()]
    return Projected(*_Project.apply(*parts, *views, lens.height, lens.width))


@wp.func
@no_type_check
def turned(q: wp.vec4):
    """Return the rotation of a unit quaternion (w, x, y, z)."""
    return wp.quat_to_matrix(wp.quat(q[1], q[2], q[3], q[0]))


@wp.func
@no_type_check
def row_of(axes: wp.mat33, slope: wp.float32, scale: wp.float32, k: wp.int32):
    """Return t_u (k = 0) or t_v (k = 1)."""
    return scale * (axes[k] - slope * axes[2])


@wp.kernel(enable_backward=False)
@no_type_check
def project_kernel(
    start: wp.int32,
    batch: wp.int32,
    gaussians: wp.int32,
    height: wp.int32,
    width: wp.int32,
    means: wp.array(dtype=wp.vec3),
    quaternions: wp.array(dtype=wp.vec4),
    scales: wp.array(dtype=wp.vec3),
    opacities: wp.array(dtype=wp.float32),
    positions: wp.array(dtype=wp.vec3),
    axes: wp.array(dtype=wp.mat33),
    intrinsics: wp.array(dtype=wp.vec3),
    mean: wp.array(dtype=wp.vec2),
    conic: wp.array(dtype=wp.vec3),
    opacity: wp.array(dtype=wp.float32),
    distance: wp.array(dtype=wp.float32),
    is_visible: wp.array(dtype=wp.bool),
):
    i = start + wp.tid()
    root = turned(wp.normalize(quaternions[i])) * wp.diag(scales[i])
    for view in range(batch):
        item = view * gaussians + i
        offset = means[i] - positions[view]
        seen = axes[view] * offset
        is_ahead = seen[2] > NEAR
        z = wp.where(is_ahead, seen[2], 1.0)
        lens = intrinsics[view]
        scale = lens[0] / z
        slope_x = wp.clamp(seen[0] / z, -lens[1], lens[1])
        slope_y = wp.clamp(seen[1] / z, -lens[2], lens[2])
        u = row_of(axes[view], slope_x, scale, 0) * root
        v = row_of(axes[view], slope_y, scale, 1) * root
        uu = wp.dot(u, u)
        uv = wp.dot(u, v)
        vv = wp.dot(v, v)
        before = uu * vv - uv * uv
        after = (uu + LOW_PASS) * (vv + LOW_PASS) - uv * uv
        mean[item] = wp.vec2(
            scale * seen[0] + wp.float32(width) / 2.0, scale * seen[1] + wp.float32(height) / 2.0
        )
        conic[item] = wp.vec3(vv + LOW_PASS, -uv, uu + LOW_PASS) / after
        opacity[item] = opacities[i] * wp.sqrt(wp.max(before / after, LEAST_KEPT))
        distance[item] = wp.length(offset)
        is_visible[item] = is_ahead


@wp.kernel(enable_backward=False)
@no_type_check
def gradient_kernel(
    start: wp.int32,
    batch: wp.int32,
    gaussians: wp.int32,
    means: wp.array(dtype=wp.vec3),
    quaternions: wp.array(dtype=wp.vec4),
    scales: wp.array(dtype=wp.vec3),
    opacities: wp.array(dtype=wp.float32),
    positions: wp.array(dtype=wp.vec3),
    axes: wp.array(dtype=wp.mat33),
    intrinsics: wp.array(dtype=wp.vec3),
    from_mean: wp.array(dtype=wp.vec2),
    from_conic: wp.array(dtype=wp.vec3),
    from_opacity: wp.array(dtype=wp.float32),
    from_distance: wp.array(dtype=wp.float32),
    to_mean: wp.array(dtype=wp.vec3),
    to_quaternion: wp.array(dtype=wp.vec4),
    to_scale: wp.array(dtype=wp.vec3),
    to_opacity: wp.array(dtype=wp.float32),
):
    i = start + wp.tid()
    q = wp.normalize(quaternions[i])
    rotation = turned(q)
    root = rotation * wp.diag(scales[i])
    total_mean = wp.vec3()
    total_root = wp.mat33()
    total_opacity = wp.float32(0.0)
    for view in range(batch):
        item = view * gaussians + i
        offset = means[i] - positions[view]
        seen = axes[view] * offset
        z = seen[2]
        if z > NEAR:
            lens = intrinsics[view]
            scale = lens[0] / z
            slope_x = wp.clamp(seen[0] / z, -lens[1], lens[1])
            slope_y = wp.clamp(seen[1] / z, -lens[2], lens[2])
            t_u = row_of(axes[view], slope_x, scale, 0)
            t_v = row_of(axes[view], slope_y, scale, 1)
            u = t_u * root
            v = t_v * root
            uu = wp.dot(u, u)
            uv = wp.dot(u, v)
            vv = wp.dot(v, v)
            before = uu * vv - uv * uv
            after = (uu + LOW_PASS) * (vv + LOW_PASS) - uv * uv
            inverse = wp.mat22(vv + LOW_PASS, -uv, -uv, uu + LOW_PASS) / after
            g = from_conic[item]
            to_c = -(inverse * wp.mat22(g[0], 0.5 * g[1], 0.5 * g[1], g[2]) * inverse)
            kept = wp.sqrt(wp.max(before / after, LEAST_KEPT))
            total_opacity += from_opacity[item] * kept
            if before / after > LEAST_KEPT:
                to_log = 0.5 * from_opacity[item] * opacities[i] * kept
                to_c += to_log * (wp.mat22(vv, -uv, -uv, uu) / before - inverse)
            to_u = 2.0 * (to_c[0, 0] * u + to_c[0, 1] * v)
            to_v = 2.0 * (to_c[1, 1] * v + to_c[0, 1] * u)
            total_root += wp.outer(t_u, to_u) + wp.outer(t_v, to_v)
            to_t_u = root * to_u
            to_t_v = root * to_v
            # through the slopes, where they are not held, and through the distance ahead
            h = from_mean[item] * scale
            to_x = h[0]
            to_y = h[1]
            to_z = -(wp.dot(t_u, to_t_u) + wp.dot(t_v, to_t_v)) / z
            if wp.abs(seen[0]) < lens[1] * z:
                to_x -= scale * wp.dot(axes[view][2], to_t_u) / z
            if wp.abs(seen[1]) < lens[2] * z:
                to_y -= scale * wp.dot(axes[view][2], to_t_v) / z
            to_z -= (to_x * seen[0] + to_y * seen[1]) / z
            total_mean += wp.vec3(to_x, to_y, to_z) * axes[view]
            total_mean += offset * (from_distance[item] / wp.length(offset))
    to_mean[i] = total_mean
    to_opacity[i] = total_opacity
    w = q[0]
    x = q[1]
    y = q[2]
    k = q[3]
    s = scales[i]
    m = total_root * wp.diag(s)
    for j in range(3):
        to_scale[i][j] = (
            total_root[0, j] * rotation[0, j]
            + total_root[1, j] * rotation[1, j]
            + total_root[2, j] * rotation[2, j]
        )
    turn = wp.vec3(m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1])
    axis = wp.vec3(x, y, k)
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    along = (m + wp.transpose(m)) * axis - 2.0 * trace * axis + w * turn
    to_unit = 2.0 * wp.vec4(wp.dot(axis, turn), along[0], along[1], along[2])
    to_quaternion[i] = (to_unit - wp.dot(to_unit, q) * q) / wp.length(quaternions[i])


class _Project(Function):
    """Mean, conic, opacity, distance and visibility, with gradients to the Gaussians."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        *tensors, height, width = inputs
        means, positions = tensors[0], tensors[4]
        batch, gaussians = len(positions), len(means)
        sizes = (2, 3, 1, 1)
        outputs = [means.new_empty(batch, gaussians, size) for size in sizes]
        is_visible = torch.empty(batch, gaussians, dtype=torch.bool, device=means.device)
        arguments = [batch, gaussians, height, width, *tensors]
        arguments += [part.view(-1) for part in (*outputs, is_visible)]
        launch_split(project_kernel, gaussians, arguments, means.device)
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(is_visible)
        mean, conic, opacity, distance = outputs
        return mean, conic, opacity[..., 0], distance[..., 0], is_visible

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        gaussians, batch = len(tensors[0]), len(tensors[4])
        gradients = [torch.empty_like(part) for part in tensors[:4]]
        arguments = [batch, gaussians, *tensors, *(c.contiguous() for c in cotangents[:4])]
        arguments = [part.view(-1) if isinstance(part, Tensor) else part for part in arguments]
        arguments += [part.view(-1) for part in gradients]
        launch_split(gradient_kernel, gaussians, arguments, tensors[0].device)
        return *gradients, *([None] * 5)
