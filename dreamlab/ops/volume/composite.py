"""Composite packed samples along rays, front to back, by the emission-absorption model.

With density sigma_i, interval length d_i and transmittance T_i = exp(-sum_{j<i} sigma_j d_j),

    w_i = T_i (1 - exp(-sigma_i d_i))   if T_i >= early_stop, else 0
    features = sum w_i f_i,  alpha = sum w_i,  depth = sum w_i t_i

over the samples i of a ray, t_i being midpoints. No background is added and nothing is normalised.

Source: Max 1995, "Optical Models for Direct Volume Rendering"; Mildenhall et al. 2020 (NeRF),
equation 3.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.ops.backends import Backend, resolve
from dreamlab.ops.volume.march import Samples


@dataclass(frozen=True)
class Composite:
    """What rays see."""

    features: Float[Tensor, "rays channels"]
    """Sum of w_i f_i."""
    alpha: Float[Tensor, " rays"]
    """Opacity, sum of w_i, in [0, 1]."""
    depth: Float[Tensor, " rays"]
    """Sum of w_i t_i, world units; divide by alpha for a mean."""
    weights: Float[Tensor, " samples"]
    """w_i of every sample."""


def composite(
    density: Float[Tensor, " samples"],
    features: Float[Tensor, "samples channels"],
    samples: Samples,
    *,
    early_stop: float = 1e-4,
    backend: Backend = "auto",
) -> Composite:
    """Composite features of samples into features of rays.

    Args:
        density: 1 / world unit, >= 0.
        features: any number of channels of any meaning.
        samples: where the samples are.
        early_stop: transmittance below which the rest of a ray is skipped, in [0, 1).
        backend: `warp` (float32) or `reference`.

    Raises:
        InputError: a length, type or range does not fit.

    Gradients:
        To density and features, from all four results; not to the sample positions. Which samples
        are skipped is held fixed. Once with `warp`, any order with `reference`.
    """
    name = resolve("composite", backend, density.device)
    if not len(density) == len(features) == len(samples):
        raise InputError(
            f"composite got {len(density)} densities and {len(features)} features for "
            f"{len(samples)} samples.",
            "Evaluate the field at samples.points(origins, directions).",
        )
    if not 0 <= early_stop < 1:
        raise InputError(f"early_stop must be in [0, 1), got {early_stop}.", "Use e.g. 1e-4.")
    if name == "reference":
        from dreamlab.ops.volume.composite_reference import accumulate
    else:
        if not density.dtype == features.dtype == torch.float32:
            raise InputError(
                f"composite on backend 'warp' needs float32, got {density.dtype} densities and "
                f"{features.dtype} features.",
                "Convert them with .float(), or use backend 'reference'.",
            )
        from dreamlab.ops.volume.composite_warp import accumulate
    return Composite(*accumulate(density, features, samples, early_stop))
