"""Claims about spherical harmonics, against those of scipy and against what rotations do."""

import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from dreamlab.core.harmonics import Y_0, bases_above_zero, degree_of, harmonics_above_zero, turn
from dreamlab.core.protocols import Splats


def directions(count=200, seed=0):
    draw = torch.Generator().manual_seed(seed)
    random = torch.randn(count, 3, generator=draw, dtype=torch.float64)
    return torch.nn.functional.normalize(random, dim=-1)


def of_scipy(unit, degree):
    """Real harmonics out of the complex ones, whose sign is Condon and Shortley's."""
    x, y, z = unit.numpy().T
    polar, azimuth = np.arccos(z), np.arctan2(y, x)
    columns = []
    for l in range(1, degree + 1):  # noqa: E741
        for m in range(-l, l + 1):
            value = sph_harm_y(l, abs(m), polar, azimuth)
            part = value.imag if m < 0 else value.real
            columns.append(part * (math.sqrt(2) if m else 1))
    return torch.from_numpy(np.stack(columns, axis=1))


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_they_are_those_of_scipy(degree):
    unit = directions()
    found = harmonics_above_zero(unit, degree)
    assert found.shape[1] == bases_above_zero(degree) and degree_of(found.shape[1]) == degree
    torch.testing.assert_close(found, of_scipy(unit, degree), atol=1e-12, rtol=0)
    value = sph_harm_y(0, 0, 0.0, 0.0)
    assert value.real == pytest.approx(Y_0)


def test_gradients_are_exact():
    unit = directions(4).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: harmonics_above_zero(d, 3), unit)


def test_the_mean_over_all_directions_is_the_constant_part_alone():
    """Gauss-Legendre in z, evenly around it: exact for these degrees."""
    z, weight = np.polynomial.legendre.leggauss(4)
    angle = np.arange(8) * math.pi / 4
    radius = np.sqrt(1 - z**2)
    x, y = radius[:, None] * np.cos(angle), radius[:, None] * np.sin(angle)
    points = np.stack([x, y, np.broadcast_to(z[:, None], x.shape)], axis=-1).reshape(-1, 3)
    values = harmonics_above_zero(torch.from_numpy(points), 3)
    mean = (values * torch.from_numpy(np.repeat(weight, 8))[:, None]).sum(0) / 16
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-12, rtol=0)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_turned_functions_are_those_of_the_direction_turned_back(degree):
    draw = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=draw, dtype=torch.float64))[0]
    rotation = rotation * torch.linalg.det(rotation)
    shape = (2, bases_above_zero(degree), 3)
    before = torch.randn(shape, generator=draw, dtype=torch.float64)
    after = turn(before, rotation)
    unit = directions(30, seed=2)
    expected = harmonics_above_zero(unit @ rotation, degree) @ before
    torch.testing.assert_close(harmonics_above_zero(unit, degree) @ after, expected)
    torch.testing.assert_close(turn(after, rotation.T), before)


def test_cameras_see_the_colour_of_their_direction():
    """The harmonic of z, seen from above and from below."""
    harmonics = torch.zeros(1, 3, 3)
    harmonics[0, 1, 0] = 0.3
    colors = torch.tensor([[0.5, 0.5, 0.5]])
    rest = (torch.tensor([[1.0, 0, 0, 0]]), torch.ones(1, 3), torch.ones(1))
    splats = Splats(torch.tensor([[0.2, 0.1, 0.0]]), *rest, colors, harmonics)
    above, below = splats.colors_from(torch.tensor([[0.2, 0.1, 5.0], [0.2, 0.1, -5.0]]))
    change = 0.3 * math.sqrt(3 / math.pi) / 2
    torch.testing.assert_close(above[0], torch.tensor([0.5 - change, 0.5, 0.5]))
    torch.testing.assert_close(below[0], torch.tensor([0.5 + change, 0.5, 0.5]))
