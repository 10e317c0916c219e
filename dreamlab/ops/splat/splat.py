"""Splatting: Gaussians in pixels, blended front to back.

At the pixel centre p the i-th Gaussian, in the order of its distance from the camera, has

    d_i^2 = (p - m_i)^T Q_i (p - m_i),
    a_i = min(0.99, o_i exp(-d_i^2 / 2)),   0 if that is below 1/255,
    T_i = prod_{j < i} (1 - a_j),   w_i = a_i T_i   if T_i >= 1e-4, else 0,
    features = sum w_i f_i,   alpha = sum w_i.

Where Gaussians have a shape beta they are generalised exponentials instead,

    a_i = min(0.99, o_i exp(-(d_i^2)^(beta_i / 2) / 2)),

which are Gaussians for beta = 2, flatter with a sharper edge above and peaked below. Their ellipses
on the screen are those of Gaussians. d^2 is held in `SQUARE_RANGE` there, and beta must be at least
1, below which the gradient to the mean has no bound.

Glossary: `m` mean, `Q` conic, `o` opacity, as `project` returns them; `T` transmittance.

Sources: Kerbl et al. 2023 (3D Gaussian splatting), equation 3 and section 6; Hamdi et al. 2024
(GES), section 4, for the kernel, which is evaluated here as it is: their renderer has Gaussians of
a size that depends on beta in its place.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.ops.backends import Backend, resolve
from dreamlab.ops.splat.project import Projected

MAX_ALPHA = 0.99
"""Keeps what lies behind visible to the gradient."""
MIN_ALPHA = 1 / 255
"""Weaker contributions are skipped; bounds the size of a Gaussian."""
EARLY_STOP = 1e-4
"""Transmittance below which the rest is skipped."""
SQUARE_RANGE = (1e-12, 1e3)
"""Of d^2 for generalised exponentials: the middle, where they are not smooth, and far outside."""


def splat(
    projected: Projected,
    features: Float[Tensor, "batch gaussians channels"],
    height: int,
    width: int,
    *,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "batch height width channels"], Float[Tensor, "batch height width 1"]]:
    """Blend Gaussians into pictures; see the module docstring.

    Args:
        projected: of `project`.
        features: any number of channels of any meaning; no background is added.
        height: of the pictures, pixels; also `width`.
        backend: `warp` (float32), `reference`, or `gsplat` (float32, CUDA; see its file).

    Returns:
        features and alpha.

    Raises:
        InputError: the tensors do not have the type that the backend needs.

    Gradients: to mean, conic, opacity, shape and features. The order is held fixed.
    """
    name = resolve("splat", backend, features.device)
    if name == "reference":
        from dreamlab.ops.splat.reference import blend
    else:
        if not projected.mean.dtype == features.dtype == torch.float32:
            raise InputError(
                f"splat on backend {name!r} needs float32, got {projected.mean.dtype} Gaussians "
                f"and {features.dtype} features.",
                "Convert them with .float(), or use backend 'reference'.",
            )
        if name == "gsplat":
            from dreamlab.ops.splat.gsplat import blend
        else:
            from dreamlab.ops.splat.warp import blend
    return blend(projected, features, height, width)
