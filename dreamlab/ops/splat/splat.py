"""Splatting: Gaussians in pixels, blended front to back.

At the pixel centre p the i-th Gaussian, in the order of its distance from the camera, has

    a_i = min(0.99, o_i exp(-(p - m_i)^T Q_i (p - m_i) / 2)),   0 if that is below 1/255,
    T_i = prod_{j < i} (1 - a_j),   w_i = a_i T_i   if T_i >= 1e-4, else 0,
    features = sum w_i f_i,   alpha = sum w_i.

Glossary: `m` mean, `Q` conic, `o` opacity, as `project` returns them; `T` transmittance.

Source: Kerbl et al. 2023 (3D Gaussian splatting), equation 3 and section 6.
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
        backend: `warp` (float32) or `reference`.

    Returns:
        features and alpha.

    Raises:
        InputError: the tensors do not have the type that the backend needs.

    Gradients: to mean, conic, opacity and features. The order is held fixed.
    """
    name = resolve("splat", backend, features.device)
    if name == "reference":
        from dreamlab.ops.splat.reference import blend
    else:
        if not projected.mean.dtype == features.dtype == torch.float32:
            raise InputError(
                f"splat on backend 'warp' needs float32, got {projected.mean.dtype} Gaussians and "
                f"{features.dtype} features.",
                "Convert them with .float(), or use backend 'reference'.",
            )
        from dreamlab.ops.splat.warp import blend
    return blend(projected, features, height, width)
