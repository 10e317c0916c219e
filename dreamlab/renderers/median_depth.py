"""Where a ray has met half of what it meets: the depth of a front, not of the fog behind it.

With weights w_i of samples or Gaussians i in the order of their distance t_i, and alpha = sum w_i,

    median = t_m,   m the first with sum_{i <= m} w_i >= alpha / 2.

The mean sum w_i t_i / alpha lies between a veil and what is seen through it, where there is
nothing; the median lies on one of them. It is zero for rays that meet nothing, and has no gradient.

Source: median depth of 2D Gaussian splatting (Huang et al. 2024); there half of the light is
counted instead of half of what is met, which is the same for what is opaque.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import one_hot, pad

from dreamlab.ops.volume.march import Samples

BINS = 48
"""Intervals of the distance that Gaussians are sorted into; within one, the mean counts."""
TINY = 1e-9


def median_of_samples(
    weights: Float[Tensor, " samples"], samples: Samples
) -> Float[Tensor, " rays"]:
    """Return the median distance along each ray, linear within the sample where it lies."""
    ray, offsets = samples.ray_index.long(), samples.offsets.long()
    met = pad(weights.double().cumsum(0), (1, 0))  # before each sample, over all rays
    half = (met[offsets[:-1]] + met[offsets[1:]]) / 2
    before, after, target = met[:-1], met[1:], half[ray]
    is_median = (before < target) & (target <= after)  # one sample of each ray that meets anything
    share = ((target - before) / (after - before))[is_median].to(weights)
    t = samples.t_start[is_median] + share * (samples.t_end - samples.t_start)[is_median]
    return weights.new_zeros(samples.num_rays).index_copy(0, ray[is_median], t)


def depth_bins(
    distance: Float[Tensor, "batch gaussians"], is_visible: Bool[Tensor, "batch gaussians"]
) -> Float[Tensor, "batch gaussians features"]:
    """Return, as features to splat, in which interval each Gaussian is, and there its distance."""
    low = distance.where(is_visible, torch.inf).amin(dim=1, keepdim=True)
    high = distance.where(is_visible, -torch.inf).amax(dim=1, keepdim=True)
    place = (distance - low) / (high - low).clamp(min=TINY)
    index = (place.nan_to_num() * BINS).long().clamp(0, BINS - 1)
    member = one_hot(index, BINS).to(distance)
    return torch.cat([member, member * distance[..., None]], dim=-1)


def median_of_bins(
    picture: Float[Tensor, "batch height width features"],
    alpha: Float[Tensor, "batch height width 1"],
) -> Float[Tensor, "batch height width 1"]:
    """Return the median distance of every pixel from the picture of `depth_bins`."""
    weight, moment = picture.split(BINS, dim=-1)
    median = (weight.cumsum(dim=-1) >= alpha / 2).long().argmax(dim=-1, keepdim=True)
    inside = weight.gather(-1, median)
    return torch.where(inside > 0, moment.gather(-1, median) / inside.clamp(min=TINY), 0.0)
