"""What every renderer returns.

All tensors are `[batch height width channels]`. `rgb` is sRGB in [0, 1], composited over the
background; `alpha` in [0, 1]; `depth` is the expected distance along the ray, world units, weighted
by opacity and not normalised (divide by alpha); `normal` is the opacity-weighted world-space unit
normal; `regions` are alpha-composited soft masks of a layout's objects, which sum to alpha.
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
    albedo: Float[Tensor, "batch height width 3"] | None = None
    """The colours as `rgb` has them without light, over the same background."""
    regions: Float[Tensor, "batch height width boxes"] | None = None
    """Differentiable to what is composited, not to the shares (see `core.regions`)."""
    excess: Float[Tensor, "batch height width 1"] | None = None
    """How far what is seen lies outside of all boxes, world units, weighted by opacity."""
    shown: tuple[int, ...] | None = None
    """Numbers of the layout's objects that were drawn; the others have empty masks."""
    depth_variance: Float[Tensor, "batch height width 1"] | None = None
    """Variance of the distance along the ray under normalised weights (HiFA's z-variance)."""
    orientation: Float[Tensor, "batch height width 1"] | None = None
    """Sum over samples of weight * max(0, normal . direction)^2 (Ref-NeRF eq. 11)."""
    reference: "Render | None" = None
    """The same views of the object as it was at the begin of the stage; no gradient."""
