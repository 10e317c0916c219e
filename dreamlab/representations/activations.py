"""Maps from a network's raw output to a density.

Glossary: `x` raw output (pre-activation); density in 1 / world unit, >= 0.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

DensityActivation = Literal["softplus", "trunc_exp"]

MAX_EXPONENT = 15.0
"""The exponential's derivative is held at exp(15) above x = 15."""


class _TruncatedExponential(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.exp(x)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: Tensor) -> None:  # type: ignore[override]
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return gradient * torch.exp(x.clamp(max=MAX_EXPONENT))


def trunc_exp(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return exp(x), with a derivative that stops growing at x = 15.

    Gradients: exp(min(x, 15)), itself differentiable.
    Source: the activation of instant-ngp (Müller et al. 2022), clamp as commonly used with it.
    """
    return _TruncatedExponential.apply(x)  # type: ignore[return-value]


def density_activation(name: DensityActivation) -> Callable[[Tensor], Tensor]:
    """Return the function with this name: softplus log(1 + exp(x)), or `trunc_exp`."""
    return functional.softplus if name == "softplus" else trunc_exp
