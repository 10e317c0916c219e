"""The density threshold whose surface has the outline that was rendered.

A volume has no surface until somebody chooses a density; a bad choice leaves holes or a shell of
fog. The right one is known from the renders: the outline of the mesh should be the set of pixels
whose opacity exceeds 1/2. For the surface {density = tau} that outline needs no mesh: the ray of
pixel p meets it exactly if

    m(p) = max over the ray of density > tau,

so one maximum-intensity projection m answers for every tau at once, by counting pixels. Between
the nodes of a grid the logarithm of the density is interpolated, as `surface.py` does.

Glossary: `tau` threshold, 1 / world unit; `m` the projection; IoU of two sets of pixels, the
size of their intersection over that of their union (1 for two empty sets), averaged over views.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.ops.volume.projection import project_maximum
from dreamlab.ops.volume.surface import log_density

OPAQUE = 0.5
"""Opacity above which a pixel belongs to the object."""
NUM_CANDIDATES = 2048
"""Thresholds tried, a factor of at most 1.006 apart."""
PLATEAU = 0.001
"""Thresholds whose IoU is this close to the best count as equally good."""


@dataclass(frozen=True)
class SilhouetteReference:
    """Rendered views that the exported mesh must agree with."""

    cameras: Cameras
    alpha: Float[Tensor, "views height width 1"]
    """Opacity in [0, 1]."""
    depth: Float[Tensor, "views height width 1"] | None = None
    """Distance along the ray, world units, where it is opaque; only `tsdf` needs it."""

    @property
    def mask(self) -> Bool[Tensor, "views height width 1"]:
        return self.alpha > OPAQUE


@dataclass(frozen=True)
class Threshold:
    """A density threshold and how well its outline fits the renders."""

    value: float
    iou: float
    """Mean over the reference views, predicted from the projection."""


def mean_iou(
    a: Bool[Tensor, "views height width 1"], b: Bool[Tensor, "views height width 1"]
) -> float:
    """Return the intersection over union of two masks, averaged over views."""
    intersection = (a & b).flatten(1).sum(dim=1)
    union = (a | b).flatten(1).sum(dim=1)
    return float(torch.where(union > 0, intersection / union.clamp(min=1), 1.0).mean())


def find_threshold(
    density: Float[Tensor, "resolution resolution resolution"],
    half_extent: float,
    reference: SilhouetteReference,
) -> Threshold:
    """Find the threshold whose surface has the outline of the rendered opacity.

    The middle (in the logarithm) of all thresholds within `PLATEAU` of the best IoU is taken, so a
    field with a hard edge is cut where both sides leave the most room.

    Args:
        density: at the nodes of the cube, as `extract_surface` takes it; 1 / world unit.
        half_extent: of the cube, world units.
        reference: what was rendered.

    Raises:
        InputError: nothing is opaque in the renders, or the field is empty along opaque pixels.
    """
    mask = reference.mask
    if not bool(mask.any()):
        raise InputError(
            f"there is nothing to export: no rendered pixel has an opacity above {OPAQUE}"
            f" (the largest is {float(reference.alpha.max()):.3g}).",
            "optimise for more steps, or start again with another seed.",
        )
    height, width = mask.shape[1:3]
    values, floor = log_density(density)
    cameras = reference.cameras.to(values.device)
    m = project_maximum(values, half_extent, cameras, height, width).to(mask.device)
    if not bool((m[mask] > 0).any()):
        raise InputError(
            "there is nothing to export: the density is zero wherever the renders are opaque.",
            "raise export.resolution, or optimise for more steps.",
        )
    # the highest lies just below the largest density, so that the surface is never empty
    fraction = torch.linspace(0, 1 - 1e-4, NUM_CANDIDATES + 1, device=m.device)[1:]
    candidates = m.max() * fraction
    iou = torch.stack([_view_iou(m[v], mask[v], candidates) for v in range(len(m))]).mean(dim=0)
    best = float(iou.max())
    plateau = candidates[iou >= best - PLATEAU]
    return Threshold(floor * math.exp(float(plateau[0] + plateau[-1]) / 2), best)


def _view_iou(m: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
    """Return the IoU of {m > tau} and the mask of one view for every candidate tau."""
    inside = m[mask].sort().values
    everywhere = m.flatten().sort().values

    def above(ordered: Tensor) -> Tensor:
        return len(ordered) - torch.searchsorted(ordered, candidates, right=True)

    intersection = above(inside)
    union = len(inside) + above(everywhere) - intersection
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)
