"""Weights w(t) of the score-distillation gradient, as functions of alpha(t) and sigma(t).

Since eh - eps = (alpha / sigma) (z - x0h), a weight also says how hard z is pulled to the one-step
denoised x0h: by w alpha / sigma. (x0h = (z_t - sigma eh) / alpha.)

`flow` is the constant weight of a residual of flow velocities: for u = eps - x0,

    uh - (eps - z) = (alpha + sigma) / alpha (eh - eps),

which on the straight path (alpha = 1 - s, sigma = s) is (eh - eps) / (1 - s).
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from dreamlab.priors.base import PerView

Weighting = Literal["sds", "uniform", "fantasia3d", "x0", "inverse_variance", "flow"]

WEIGHTINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sds": lambda alpha, sigma: sigma.square(),  # DreamFusion
    "uniform": lambda alpha, sigma: alpha.new_ones(alpha.shape),
    "fantasia3d": lambda alpha, sigma: alpha * sigma.square(),
    "x0": lambda alpha, sigma: sigma / alpha,  # an unweighted pull to x0h: CFD, ISM, DMD
    "inverse_variance": lambda alpha, sigma: 1 / sigma.square(),
    "flow": lambda alpha, sigma: (alpha + sigma) / alpha,  # RFDS
}


def weight(name: Weighting, alpha: PerView, sigma: PerView) -> PerView:
    """Evaluate a weighting."""
    return WEIGHTINGS[name](alpha, sigma)
