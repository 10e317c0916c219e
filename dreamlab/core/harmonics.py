"""Real spherical harmonics: colour that depends on the direction it is seen from.

For a unit vector d = (x, y, z) with polar angle t from z and azimuth p, and degree l <= 3,

    Y_lm = sqrt(2) K_lm P_l|m|(cos t) sin(|m| p)   m < 0
           K_l0 P_l0(cos t)                        m = 0
           sqrt(2) K_lm P_lm(cos t) cos(m p)       m > 0,

K_lm = sqrt((2 l + 1) / (4 pi) (l - |m|)! / (l + |m|)!) and P with the factor (-1)^m of Condon and
Shortley: the functions and signs that files of 3D Gaussian splatting count on. They are orthonormal
on the sphere, so Y_00's coefficient alone is the mean over all directions. Within a degree m rises
from -l to l.

A function f(d) = sum c_lm Y_lm(d) that is turned by R is f(R^-1 d). Its coefficients are other ones
of the same degree, a linear map of c that `turn` finds from the values at a few directions.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

MAX_DEGREE = 3
Y_0 = 0.5 / math.sqrt(math.pi)
"""The constant harmonic."""


def bases_above_zero(degree: int) -> int:
    """Return how many harmonics there are of degrees 1 to `degree`."""
    return (degree + 1) ** 2 - 1


def harmonics_above_zero(
    directions: Float[Tensor, "*n 3"], degree: int
) -> Float[Tensor, "*n bases"]:
    """Return the harmonics of degrees 1 to `degree` (at most 3) at unit vectors; differentiable."""
    x, y, z = directions.unbind(dim=-1)
    first, second, third = (math.sqrt(k / math.pi) / 2 for k in (3, 15, 35 / 2))
    columns = [-first * y, first * z, -first * x]
    if degree >= 2:
        columns += [
            second * x * y,
            -second * y * z,
            math.sqrt(5 / math.pi) / 4 * (3 * z * z - 1),
            -second * x * z,
            second / 2 * (x * x - y * y),
        ]
    if degree >= 3:
        inner, middle = math.sqrt(21 / (2 * math.pi)) / 4, math.sqrt(105 / math.pi) / 4
        columns += [
            -third / 2 * y * (3 * x * x - y * y),
            2 * middle * x * y * z,
            -inner * y * (5 * z * z - 1),
            math.sqrt(7 / math.pi) / 4 * z * (5 * z * z - 3),
            -inner * x * (5 * z * z - 1),
            middle * z * (x * x - y * y),
            -third / 2 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(columns[: bases_above_zero(degree)], dim=-1)


def degree_of(bases: int) -> int | None:
    """Return the degree up to which that many harmonics above zero go; None if they do not fit."""
    fitting = (degree for degree in range(MAX_DEGREE + 1) if bases_above_zero(degree) == bases)
    return next(fitting, None)


def turn(
    coefficients: Float[Tensor, "n bases 3"], rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "n bases 3"]:
    """Return the coefficients of the functions turned by `rotation`; bases as in `degree_of`."""
    degree = degree_of(coefficients.shape[1])
    assert degree is not None
    draw = torch.Generator().manual_seed(0)
    directions = torch.randn(64, 3, generator=draw, dtype=torch.float64)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    before = harmonics_above_zero(directions, degree)
    after = harmonics_above_zero(directions @ rotation.double().T, degree)
    turned = torch.zeros_like(coefficients)
    edges = [bases_above_zero(part) for part in range(degree + 1)]
    for begin, end in pairwise(edges):
        own = slice(begin, end)
        change = torch.linalg.lstsq(after[:, own], before[:, own]).solution.to(coefficients)
        turned[:, own] = torch.einsum("ij,njc->nic", change, coefficients[:, own])
    return turned
