"""Reflection at a rough surface: the GGX microfacet model, and what its integrals are.

    f(l, v) = D(n.h) V(n.l, n.v) F(v.h),    F = F0 + (1 - F0) (1 - v.h)^5
    D(c) = a^2 / (pi (c^2 (a^2 - 1) + 1)^2)
    V = 1 / (2 (n.l sqrt(a^2 + (1 - a^2) n.v^2) + n.v sqrt(a^2 + (1 - a^2) n.l^2)))

The light that leaves towards v, the integral of f L n.l over the hemisphere, is split into

    (F0 A + B) L*(r),    A = integral f / F (1 - (1 - v.h)^5) n.l dl,    B with (1 - v.h)^5 instead

where A and B depend on (n.v, roughness) alone and are tabulated here, and L* is the environment
blurred by the lobe that is seen from above (v = n), taken around the mirrored direction r.

Glossary: `n` normal, `v` to the camera, `l` to the light, `h` half way between them, all of unit
length; `a` = roughness^2; `F0` reflectance at normal incidence; `D` distribution of microfacets,
`V` their shadows (Smith) over 4 n.l n.v, `F` Fresnel term (Schlick).

Source: Karis 2013 (split sum, a = roughness^2); Walter et al. 2007 (GGX and how to sample it);
Heitz 2014 (height-correlated Smith).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

STEPS = 48
"""Midpoints along each of the two angles of h."""


def distribution(
    cosine: Float[Tensor, "*shape"], alpha: Float[Tensor, "*shape"] | float
) -> Float[Tensor, "*shape"]:
    """Return D at n.h = `cosine`; D(n.h) n.h integrates to 1 over the hemisphere."""
    return alpha**2 / (math.pi * (cosine**2 * (alpha**2 - 1) + 1) ** 2)


def visibility(
    n_l: Float[Tensor, "*shape"],
    n_v: Float[Tensor, "*#shape"],
    alpha: Float[Tensor, "*#shape"] | float,
) -> Float[Tensor, "*shape"]:
    """Return V, for cosines above 0."""
    square = alpha**2
    from_light = n_v * (square + (1 - square) * n_l**2).sqrt()
    to_camera = n_l * (square + (1 - square) * n_v**2).sqrt()
    return 0.5 / (from_light + to_camera)


def mirror_lobe(cosine: Float[Tensor, "*shape"], roughness: float) -> Float[Tensor, "*shape"]:
    """Return how much a direction l counts in L*, up to a factor, by the cosine of l and r.

    With v = n = r the density of l is D(n.h) / 4, and it counts n.l times (Karis 2013).
    """
    half = ((1 + cosine) / 2).sqrt()
    return distribution(half, roughness**2) * cosine.clamp(min=0)


def reflectance_table(size: int) -> Float[Tensor, "size size 2"]:
    """Return (A, B) at n.v = (j + 1/2) / size in column j and roughness (i + 1/2) / size in row i.

    h is spread as D(n.h) n.h is, so the mean over all h is of 4 V n.l v.h / n.h, in midpoints of
    the azimuth and of s, where 1 - (1 - s)^2 is the share of D below the angle of h: that is smooth
    even where n.h is 0. Right to 0.004.
    """
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    rows = [_row(float(roughness), centre) for roughness in centre]
    return torch.stack(rows).float()


def _row(roughness: float, n_v: Float[Tensor, " size"]) -> Float[Tensor, "size 2"]:
    alpha = roughness**2
    middle = (torch.arange(STEPS, dtype=torch.float64) + 0.5) / STEPS
    s = middle[:, None]
    n_h = (1 - s) / (1 + (alpha**2 - 1) * (1 - (1 - s) ** 2)).sqrt()
    azimuth = math.pi * middle  # the other half is the same
    n_v = n_v[:, None, None]
    v_h = n_v * n_h + ((1 - n_v**2) * (1 - n_h**2)).sqrt() * azimuth.cos()
    n_l = 2 * v_h * n_h - n_v
    is_lit = (n_l > 0) & (v_h > 0)
    n_l, v_h = n_l.clamp(min=1e-9), v_h.clamp(min=0)
    weight = torch.where(is_lit, 4 * visibility(n_l, n_v, alpha) * n_l * v_h / n_h, 0.0)
    weight = weight * 2 * (1 - s)
    grazing = (1 - v_h) ** 5
    return torch.stack([(weight * (1 - grazing)).mean((1, 2)), (weight * grazing).mean((1, 2))], 1)
