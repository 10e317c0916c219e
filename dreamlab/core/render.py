"""What every renderer returns.

All tensors are `[batch height width channels]`. `rgb` is sRGB in [0, 1], composited over the
background; `alpha` in [0, 1]; `depth` is the expected distance along the ray, world units, weighted
by opacity and not normalised (divide by alpha); `normal` is the opacity-weighted world-space unit
normal; `regions` are alpha-composited soft masks of the layout's parts.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Render:
    """A batch of rendered views; fields that a renderer was not asked for are None."""

    rgb: Float[Tensor, "batch height width 3"]
    alpha: Float[Tensor, "batch height width 1"]
    depth: Float[Tensor, "batch height width 1"]
    normal: Float[Tensor, "batch height width 3"] | None = None
    regions: Float[Tensor, "batch height width parts"] | None = None
    depth_variance: Float[Tensor, "batch height width 1"] | None = None
    """Variance of the distance along the ray under normalised weights (HiFA's z-variance)."""
    orientation: Float[Tensor, "batch height width 1"] | None = None
    """Sum over samples of weight * max(0, normal . direction)^2 (Ref-NeRF eq. 11)."""
