"""Where the mass is before training: a soft ball that is added to the raw density.

Glossary: `r` distance from the origin in world units; `scale` s, `radius` rho are settings.
A field that starts empty receives no gradient, and one that starts full hides its inside; both
papers start from a ball instead. The bias is added before the activation and is constant, so
training can remove it.

With a layout there is one body in each box, x_k being x in the frame of box k whose sides lie where
those of an object are (`Regions.to_unit`):   blob(x) = max_k blob(x_k)

Source of the maximum: LucidDreaming (Wang et al. 2023), one blob for each box.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.regions import OBJECT, Regions, turned

Blob = Literal["gaussian", "linear", "none"]

TINY = 1e-12
"""Keeps the derivatives of the distance finite at the origin."""


def blob_bias(
    kind: Blob, points: Float[Tensor, "points 3"], scale: float, radius: float
) -> Float[Tensor, " points"]:
    """Evaluate the bias of the raw density.

    - gaussian: s exp(-r^2 / (2 rho^2)); zero far away, where the density therefore starts at the
      activation's value at 0 (log 2 for softplus, 1 for trunc_exp): a fog to be cleared.
    - linear: s (1 - r / rho); zero at r = rho, then falling without end: far space is empty.
    - none: zero.

    Source: DreamFusion (Poole et al. 2022) appendix A.2; Magic3D (Lin et al. 2023) section 4.
    """
    if kind == "none":
        return torch.zeros_like(points[:, 0])
    if kind == "gaussian":
        return scale * torch.exp(points.square().sum(-1) / (-2 * radius**2))
    distance = (points.square().sum(-1) + TINY).sqrt()
    return scale * (1 - distance / radius)


def blob_gradient(
    kind: Blob, points: Float[Tensor, "points 3"], scale: float, radius: float
) -> Float[Tensor, "points 3"]:
    """Return the derivative of `blob_bias` with respect to the points."""
    if kind == "none":
        return torch.zeros_like(points)
    if kind == "gaussian":
        return points * (blob_bias(kind, points, scale, radius) / -(radius**2))[:, None]
    distance = (points.square().sum(-1, keepdim=True) + TINY).sqrt()
    return points * (-scale / radius) / distance


def boxes_bias(
    kind: Blob, points: Float[Tensor, "points 3"], scale: float, radius: float, regions: Regions
) -> Float[Tensor, " points"]:
    """Evaluate the bias of the raw density with one body in each box."""
    unit = regions.to_unit(points)
    return blob_bias(kind, unit.flatten(0, 1), scale, radius).unflatten(0, unit.shape[:2]).amax(1)


def boxes_gradient(
    kind: Blob, points: Float[Tensor, "points 3"], scale: float, radius: float, regions: Regions
) -> Float[Tensor, "points 3"]:
    """Return the derivative of `boxes_bias` with respect to the points."""
    unit = regions.to_unit(points)
    bias = blob_bias(kind, unit.flatten(0, 1), scale, radius).unflatten(0, unit.shape[:2])
    box = bias.argmax(dim=1)
    own = unit[torch.arange(len(box), device=box.device), box]
    slope = blob_gradient(kind, own, scale, radius) * (OBJECT / regions.half_sizes[box])
    return turned(slope, regions.yaw[box])
