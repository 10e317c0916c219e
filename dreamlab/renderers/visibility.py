"""Which packed samples of a batch of rays are worth an evaluation with gradient.

Glossary: optical depth = sum of density * dt along the ray, without unit; transmittance
exp(-optical depth). `N` samples of `R` rays, packed one ray after the other.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreamlab.ops.volume.march import Samples

OPAQUE_DEPTH = -math.log(1e-4)
"""Optical depth behind which samples weigh nothing: `composite` stops at transmittance 1e-4."""


def optical_depth_before(
    density: Float[Tensor, " samples"], samples: Samples
) -> Float[Tensor, " samples"]:
    """Return the optical depth between each ray's origin and the start of each sample.

    One running sum over all rays, less its value where the ray starts; in double precision, since
    that difference is small against the sum.
    """
    depth = (density * (samples.t_end - samples.t_start)).double()
    before = depth.cumsum(0) - depth
    first = samples.offsets.index_select(0, samples.ray_index)
    return (before - before.index_select(0, first)).to(density.dtype)


def is_hidden(density: Float[Tensor, " samples"], samples: Samples) -> Bool[Tensor, " samples"]:
    """Return which samples lie behind an opaque surface, so that `composite` ignores them."""
    return optical_depth_before(density, samples) > OPAQUE_DEPTH


def one_empty_sample(samples: Samples) -> Samples:
    """Return one sample of length zero on the first ray, in place of none at all.

    It weighs nothing and its density has no gradient, but losses stay connected to the field, so a
    batch that misses the object can be differentiated like any other.
    """
    zero = samples.t_start.new_zeros(1)
    offsets = torch.ones_like(samples.offsets)
    offsets[0] = 0
    return Samples(torch.zeros_like(samples.offsets[:1]), zero, zero, offsets)
