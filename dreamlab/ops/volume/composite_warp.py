# pyright: reportInvalidTypeForm=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false
"""Compositing on Warp kernels, one thread a ray, with the backward pass by hand.

Glossary and formulas are those of `dreamlab.ops.volume.composite`. With q_i = dL/dw_i, the sum of
what all results send back to the weight,

    dL/df_i = w_i dL/dfeatures,   dL/dsigma_i = d_i (T_{i+1} q_i - sum_{j>i} w_j q_j)

The backward kernel walks a ray twice: to the front for T and q, then from its end for the sum over
j > i; T_i = T_{i+1} + w_i, so nothing is ever divided or subtracted from a large number.
"""

from typing import Any, no_type_check

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dreamlab.ops.volume.march import Samples
from dreamlab.ops.warp_setup import launch_split

wp.set_module_options({"enable_backward": False})


def accumulate(
    density: Float[Tensor, " samples"],
    features: Float[Tensor, "samples channels"],
    samples: Samples,
    early_stop: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Composite samples; see `dreamlab.ops.volume.composite.composite`."""
    return _Accumulate.apply(density.contiguous(), features.contiguous(), samples, early_stop)


@wp.kernel(enable_backward=False)
@no_type_check
def accumulate_kernel(
    start: wp.int32,
    channels: wp.int32,
    early_stop: wp.float32,
    offsets: wp.array(dtype=wp.int32),
    t_start: wp.array(dtype=wp.float32),
    t_end: wp.array(dtype=wp.float32),
    density: wp.array(dtype=wp.float32),
    features: wp.array(dtype=wp.float32),
    ray_features: wp.array(dtype=wp.float32),
    ray_alpha: wp.array(dtype=wp.float32),
    ray_depth: wp.array(dtype=wp.float32),
    weights: wp.array(dtype=wp.float32),
):
    ray = start + wp.tid()
    transmittance = wp.float32(1.0)
    alpha = wp.float32(0.0)
    depth = wp.float32(0.0)
    for i in range(offsets[ray], offsets[ray + 1]):
        if transmittance < early_stop:
            break
        through = wp.exp(-density[i] * (t_end[i] - t_start[i]))
        weight = transmittance * (1.0 - through)
        transmittance *= through
        weights[i] = weight
        alpha += weight
        depth += weight * 0.5 * (t_start[i] + t_end[i])
        for c in range(channels):
            ray_features[ray * channels + c] += weight * features[i * channels + c]
    ray_alpha[ray] = alpha
    ray_depth[ray] = depth


@wp.kernel(enable_backward=False)
@no_type_check
def gradient_kernel(
    start: wp.int32,
    channels: wp.int32,
    early_stop: wp.float32,
    offsets: wp.array(dtype=wp.int32),
    t_start: wp.array(dtype=wp.float32),
    t_end: wp.array(dtype=wp.float32),
    density: wp.array(dtype=wp.float32),
    features: wp.array(dtype=wp.float32),
    weights: wp.array(dtype=wp.float32),
    to_ray_features: wp.array(dtype=wp.float32),
    to_ray_alpha: wp.array(dtype=wp.float32),
    to_ray_depth: wp.array(dtype=wp.float32),
    to_weights: wp.array(dtype=wp.float32),
    to_density: wp.array(dtype=wp.float32),
    to_features: wp.array(dtype=wp.float32),
):
    ray = start + wp.tid()
    transmittance = wp.float32(1.0)
    end = offsets[ray]
    for i in range(offsets[ray], offsets[ray + 1]):
        if transmittance < early_stop:
            break
        transmittance *= wp.exp(-density[i] * (t_end[i] - t_start[i]))
        q = to_weights[i] + to_ray_alpha[ray] + to_ray_depth[ray] * 0.5 * (t_start[i] + t_end[i])
        for c in range(channels):
            upstream = to_ray_features[ray * channels + c]
            q += upstream * features[i * channels + c]
            to_features[i * channels + c] = weights[i] * upstream
        to_density[i] = q
        end = i + 1
    behind = wp.float32(0.0)
    for step in range(end - offsets[ray]):
        i = end - 1 - step
        q = to_density[i]
        to_density[i] = (t_end[i] - t_start[i]) * (transmittance * q - behind)
        behind += weights[i] * q
        transmittance += weights[i]


class _Accumulate(Function):
    """The four results of compositing."""

    @staticmethod
    def forward(
        ctx: Any, density: Tensor, features: Tensor, samples: Samples, early_stop: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        num_rays, channels = samples.num_rays, features.shape[1]
        ray_features = features.new_zeros(num_rays, channels)
        ray_alpha, ray_depth = density.new_zeros(num_rays), density.new_zeros(num_rays)
        weights = torch.zeros_like(density)
        places = [samples.offsets, samples.t_start, samples.t_end]
        inputs = [channels, early_stop, *places, density, features]
        outputs = [ray_features, ray_alpha, ray_depth, weights]
        launch_split(accumulate_kernel, num_rays, [*inputs, *outputs], density.device)
        ctx.save_for_backward(density, features, weights)
        ctx.places, ctx.early_stop = places, early_stop
        return ray_features, ray_alpha, ray_depth, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        density, features, weights = ctx.saved_tensors
        to_density, to_features = torch.zeros_like(density), torch.zeros_like(features)
        upstream = [cotangent.contiguous() for cotangent in cotangents]
        inputs = [features.shape[1], ctx.early_stop, *ctx.places, density, features, weights]
        inputs += [*upstream, to_density, to_features]
        launch_split(gradient_kernel, len(cotangents[1]), inputs, density.device)
        return to_density, to_features, None, None
