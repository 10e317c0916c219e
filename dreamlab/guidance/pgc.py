"""Pixel-wise gradient clipping (PGC): a policy on the gradient that guidance sends to the render.

An encoder's Jacobian was never controlled in training, so a few pixels may get gradients that are
orders of magnitude above all others. PGC bounds them where they leave the guidance: at the pixels
of the render, before the renderer. Regularisers look at the same render and are not clipped.

Glossary: B views of H x W pixels; L the guidance's loss; g_p the gradient of pixel p, a vector of
the picture's channels k; c the threshold; |.|_2, |.|_inf norms over channels; max_q, rms_q over the
pixels q of one view (rms over those that got any gradient).

    value       g'_pk = clip(g_pk, -c, c)                         PGC-V
    norm2       g'_p  = g_p min(1, c / |g_p|_2)                   PGC-N
    norm_inf    g'_p  = g_p min(1, c / |g_p|_inf)
    soft        g'_p  = g_p c / (c + |g_p|_2)
    global      g'_p  = g_p min(1, c / max_q |g_q|_2)
    adaptive    g'_p  = g_p min(1, c rms_q |g_q|_2 / |g_p|_2)     c is a multiple, without unit
    normalized  g'_p  = g_p c / max_q |g_q|_2                     also makes small gradients larger

All but `value` keep the direction of g_p; all bound its size by c (`adaptive` by c rms). Zero
stays zero. A pixel with a gradient that is not finite keeps it, so that the training loop sees it,
and counts for no other pixel. `global` and `normalized` treat all pixels of a view alike, so they
cannot remove outliers: they are there to be compared with.

Normalisation. L is a mean over views (`guidance.base`), so dL/dx holds 1/B of a view's own
gradient, and S/B under a loss scale S (AMP). c is a bound on the view's own, unscaled gradient: in
dL/dx it is c S / B. So the number of views does not matter, nor whether the sum is divided by it
(PGC-3D's is not, and has the same c); weights inside the guidance do matter. The gradient of a view
is a sum over latents: of a picture drawn with n times as many pixels, a pixel gets about 1/n of it.
c refers to pixels of the render, as in PGC-3D, or, with `size` s, to those of a picture of s x s
pixels: in dL/dx it is then c S / B (s^2 / (H W)), and milestones do not matter either.

Source: Pan et al., Enhancing High-Resolution 3D Generation through Pixel-wise Gradient Clipping
(2024); norm_inf, elementwise forms of `soft` and `normalized` are options of its code (PGC-3D).
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreamlab.core.render import Render
from dreamlab.core.schedules import Scalar, check_within, ends, value_at
from dreamlab.guidance.base import clip_values

Policy = Literal["value", "norm2", "norm_inf", "soft", "global", "adaptive", "normalized"]
PixelGradient = Float[Tensor, "batch height width _channels"]
Sizes = Float[Tensor, "batch height width _sizes"]
CLIPPED = {"rgb": "rgb", "albedo": "rgb", "normal": "normal", "depth": "depth"}
"""Fields of a render whose gradients can be clipped, and whose threshold they have."""
PERCENTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}
"""Shares of the sizes that the logged ones are above."""


@dataclass(frozen=True, slots=True)
class PixelGradientConfig:
    """How the guidance's gradient is clipped at the pixels of the render."""

    policy: Policy = "norm2"
    """`value` clips each channel, `norm2` and `norm_inf` the length of a pixel's gradient, `soft`
    bends instead of cutting; `global` and `normalized` scale a whole view; `adaptive` is norm2 with
    thresholds as multiples of the view's own rms."""
    rgb: Scalar | None = 0.1
    """Threshold c for the colours, lit or not, per view (not divided by their number); none: not
    clipped."""
    normal: Scalar | None = 0.1
    """Threshold for the normals, where guidance sees them; none: not clipped."""
    depth: Scalar | None = None
    """Threshold for the depth, per world unit; none: not clipped."""
    size: int | None = None
    """Thresholds are for pixels of a picture of so many pixels a side, whatever the size of the
    render; none: for those of the render."""

    def __post_init__(self) -> None:
        for name in dict.fromkeys(CLIPPED.values()):
            threshold = getattr(self, name)
            if threshold is None:
                continue
            check_within(f"the threshold {name}", threshold, 0.0, strictly=True)
            if self.policy == "normalized" and math.inf in ends(threshold):
                raise ValueError(f"the policy normalized needs a finite threshold {name}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")


def clip_gradient(gradient: PixelGradient, policy: Policy, limit: float) -> PixelGradient:
    """Return g' of the module docstring.

    Args:
        gradient: g, any float type.
        policy: which of the formulas.
        limit: c, > 0, in the units of `gradient`.
    """
    if policy == "value":
        return clip_values(gradient, limit)
    is_finite = gradient.isfinite().all(dim=-1, keepdim=True)
    size = torch.where(is_finite, sizes(gradient, policy), 0.0)
    clipped = (gradient * _factor(size, policy, limit)).to(gradient.dtype)
    return torch.where(is_finite, clipped, gradient)


def sizes(gradient: PixelGradient, policy: Policy) -> Sizes:
    """Return what the policy compares with c, float64: |g_pk| for `value`, else a norm of g_p."""
    if policy == "value":
        return gradient.double().abs()
    order = math.inf if policy == "norm_inf" else 2
    # in double precision, the squares of the largest and smallest float32 numbers exist
    return torch.linalg.vector_norm(gradient, ord=order, dim=-1, keepdim=True, dtype=torch.float64)


def are_above(size: Sizes, policy: Policy, limit: float) -> Bool[Tensor, "*shape"]:
    """Return which sizes are above c (for `adaptive`, above c rms)."""
    return size > (limit * _rms(size) if policy == "adaptive" else limit)


def _factor(size: Sizes, policy: Policy, limit: float) -> Float[Tensor, "batch _h _w 1"]:
    """Return by what a pixel's gradient is multiplied; the sizes are finite."""
    largest = size.amax(dim=(1, 2, 3), keepdim=True)
    if policy == "soft":
        return 1 / (1 + size / limit)
    if policy == "global":
        return _shrink(largest, limit)
    if policy == "normalized":
        return torch.where(largest > 0, limit / largest, 1.0)
    return _shrink(size, limit * _rms(size) if policy == "adaptive" else limit)


def _shrink(size: Tensor, limit: Tensor | float) -> Tensor:
    """Return min(1, limit / size), 1 where the size is 0."""
    return torch.where(size > limit, limit / size, 1.0)


def _rms(size: Sizes) -> Float[Tensor, "batch 1 1 1"]:
    """Return the root mean square of the finite sizes of a view that are not 0."""
    counted = size.isfinite() & (size > 0)
    square = torch.where(counted, size, 0.0).square().sum(dim=(1, 2, 3), keepdim=True)
    return (square / counted.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)).sqrt()


class PixelGradients:
    """Clips the gradients of one step.

    `guard` goes around what the guidance is shown; after the backward pass, `metrics` tells for
    every picture whose gradient was clipped, as `rgb_clipped`, `rgb_gradient_p50`, ...:

        clipped         share of pixels (`value`: of their channels) above the threshold
        gradient_p50    median size before clipping, in the units of the threshold; so p99 and max
    """

    def __init__(
        self, config: PixelGradientConfig | None, progress: float, *, loss_scale: float = 1.0
    ) -> None:
        """Clip nothing if there is no `config`.

        Args:
            config: policy and thresholds.
            progress: of the stage, for thresholds that are schedules.
            loss_scale: by what the loss is multiplied before the backward pass (AMP).
        """
        self.config, self.progress, self.loss_scale = config, progress, loss_scale
        self.metrics: dict[str, float] = {}

    def guard(self, render: Render) -> Render:
        """Return the same render, whose pictures clip the gradients that come back through them.

        The tensors of `render` itself stay as they are: what looks at those is not clipped.
        """
        if self.config is None:
            return render
        guarded: dict[str, Tensor] = {}
        for name, setting in CLIPPED.items():
            picture, threshold = getattr(render, name), getattr(self.config, setting)
            if picture is None or threshold is None or not picture.requires_grad:
                continue
            guarded[name] = picture.view_as(picture)
            limit = value_at(threshold, self.progress)
            guarded[name].register_hook(partial(self._clip, name, limit))
        return replace(render, **guarded)

    def _clip(self, name: str, threshold: float, gradient: Tensor) -> Tensor:
        assert self.config is not None
        policy, unit = self.config.policy, self._unit(gradient)
        limit = threshold if policy == "adaptive" else threshold * unit
        self._measure(name, sizes(gradient, policy), limit, unit)
        return clip_gradient(gradient, policy, limit)

    def _unit(self, gradient: Tensor) -> float:
        """Return what 1 in the units of the threshold is in dL/dx."""
        assert self.config is not None
        num_views, height, width = gradient.shape[:3]
        area = 1.0 if self.config.size is None else self.config.size**2 / (height * width)
        return self.loss_scale / num_views * area

    def _measure(self, name: str, size: Tensor, limit: float, unit: float) -> None:
        assert self.config is not None
        above = are_above(size, self.config.policy, limit).double().mean()
        found = {"clipped": above} | {
            f"gradient_{label}": value / unit for label, value in percentiles(size).items()
        }
        numbers = torch.stack(list(found.values())).tolist()
        self.metrics |= {f"{name}_{k}": v for k, v in zip(found, numbers, strict=True)}


def percentiles(size: Float[Tensor, "*shape"]) -> dict[str, Float[Tensor, ""]]:
    """Return the `PERCENTILES` of the finite sizes, nearest rank; NaN if there are none."""
    finite = size[size.isfinite()]
    if not len(finite):
        return {label: size.new_tensor(math.nan) for label in PERCENTILES}
    ranks = {label: max(1, math.ceil(q * len(finite))) for label, q in PERCENTILES.items()}
    return {label: finite.kthvalue(rank).values for label, rank in ranks.items()}
