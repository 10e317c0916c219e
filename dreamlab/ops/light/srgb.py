"""Linear light and its sRGB encoding.

    s = 12.92 x                      for x <= 0.0031308
    s = 1.055 x^(1 / 2.4) - 0.055    above

Glossary: `x` linear light, `s` its encoding; both are 1 for a white surface under white light.

Source: IEC 61966-2-1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

KNEE = 0.0031308
"""Linear value where the straight part of the curve ends."""
ENCODED_KNEE = 12.92 * KNEE


def to_srgb(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Encode linear light; negative values continue the straight part. Differentiable."""
    curve = 1.055 * linear.clamp(min=KNEE) ** (1 / 2.4) - 0.055
    return torch.where(linear <= KNEE, 12.92 * linear, curve)


def to_linear(srgb: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Decode sRGB numbers; negative values continue the straight part. Differentiable."""
    curve = ((srgb.clamp(min=ENCODED_KNEE) + 0.055) / 1.055) ** 2.4
    return torch.where(srgb <= ENCODED_KNEE, srgb / 12.92, curve)
