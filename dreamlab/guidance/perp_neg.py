"""Perp-Neg: pushing a view away from the wrong views without pushing it away from the prompt.

Glossary: e_0 the prediction for the empty (or negative) prompt; d_pos = e_y - e_0 the direction of
the view's own prompt; d_i = e_i - e_0 those of prompts for other views; w_i <= 0 their weights;
az azimuth in degrees, r the share of the nearer-to-front of the two views that are mixed.

    eh = e_0 + s ( d_pos + sum_i w_i perp(d_i, d_pos) ),     perp(a, b) = a - <a, b> / <b, b> b

The wrong views are always the front view and the side view, with weights that depend on azimuth:

    |az| <= 90: the prompt is r front + (1 - r) side, r = 1 - |az| / 90;
                w_front = -f_fs(r), w_side = -f_sf(1 - r)
    |az| >= 90: the prompt is r side + (1 - r) back,  r = 2 - |az| / 90;
                w_front = -f_fsb(r), w_side = -f_sb(r)
    f(r) = a exp(-b r) + c

Source: Armandpour et al., Re-imagine the Negative Prompt Algorithm (2023), with the constants that
threestudio uses.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreamlab.priors.base import Latents

F_FS = F_SF = (4.0, 0.5, -2.426)
F_SB = (1.0, 0.5, -0.606)
F_FSB = (1.0, 0.5, 0.967)
MIN_SQUARED_NORM = 1e-6


def decay(
    constants: tuple[float, float, float], r: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Return f(r) = a exp(-b r) + c."""
    a, b, c = constants
    return a * torch.exp(-b * r) + c


def away_weights(
    azimuth: Float[Tensor, " batch"], is_overhead: Bool[Tensor, " batch"]
) -> Float[Tensor, "batch 2"]:
    """Return the weights of the front view and the side view as wrong views; 0 from overhead.

    Args:
        azimuth: degrees in [-180, 180].
        is_overhead: which views are taken from above.
    """
    turn = azimuth.abs() / 90
    r = torch.where(turn <= 1, 1 - turn, 2 - turn)
    front = torch.where(turn <= 1, decay(F_FS, r), decay(F_FSB, r))
    side = torch.where(turn <= 1, decay(F_SF, 1 - r), decay(F_SB, r))
    weights = -torch.stack([front, side], dim=-1)
    return torch.where(is_overhead[:, None], 0.0, weights)


def away_direction(
    positive: Latents,
    base: Latents,
    away: Float[Tensor, "batch variants channels height width"],
    weights: Float[Tensor, "batch variants"],
) -> Latents:
    """Return sum_i w_i perp(e_i - e_0, e_y - e_0), every view with its own wrong views.

    Args:
        positive: e_y.
        base: e_0.
        away: e_i, `[B n C h w]`.
        weights: w_i.
    """
    ahead = (positive - base).flatten(1)[:, None]
    wrong = (away - base[:, None]).flatten(2)
    share = (wrong * ahead).sum(-1, keepdim=True)
    share = share / ahead.square().sum(-1, keepdim=True).clamp(min=MIN_SQUARED_NORM)
    total = (weights.to(wrong)[..., None] * (wrong - share * ahead)).sum(dim=1)
    return total.unflatten(1, positive.shape[1:])
