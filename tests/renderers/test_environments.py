"""Claims about the environments that come with dreamlab."""

import math
from typing import get_args

import pytest
import torch

from dreamlab.ops.light.panorama import Panorama, convolve, directions, solid_angles
from dreamlab.renderers.environments import ENVIRONMENTS, EnvironmentName, radiance

NAMES = get_args(EnvironmentName)


def irradiance(name, *normals):
    """E / pi at some normals."""
    blurred = Panorama.of(convolve(radiance(name, 64), lambda c: c.clamp(min=0))[None])
    return blurred.at(torch.tensor(normals, dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_every_environment_is_light_of_mean_one(name):
    picture = radiance(name, 64)
    assert picture.shape == (64, 128, 3) and picture.isfinite().all() and (picture > 0).all()
    mean = (picture * solid_angles(64)[..., None]).sum() / (12 * math.pi)
    assert mean.item() == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_more_light_comes_from_above_than_from_below(name):
    above, below = irradiance(name, (0.0, 0.0, 1.0), (0.0, 0.0, -1.0))
    assert (above > 1.2 * below).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_finer_picture_shows_the_same_light(name):
    coarse, fine = (
        convolve(radiance(name, height), lambda c: c.clamp(min=0)) for height in (32, 64)
    )
    # corners of four fine texels are the centres of coarse ones
    merged = fine.reshape(32, 2, 64, 2, 3).mean(dim=(1, 3))
    assert ((coarse - merged).abs() / merged).max() < 0.05


def test_the_neutral_environment_lights_as_its_closed_form():
    """L = 1 + 0.6 z gives E / pi = 1 + 0.4 n_z."""
    found = irradiance("neutral", (0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.6, -0.8))
    expected = torch.tensor([1.4, 1.0, 0.68], dtype=torch.float64)[:, None].expand(3, 3)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_the_overcast_sky_is_three_times_brighter_above_than_at_the_horizon():
    raw = ENVIRONMENTS["overcast"](directions(256))[..., 1]
    assert (raw[0] / raw[120]).mean().item() == pytest.approx(1 / ((1 + 0.2) / 3), rel=0.05)
    areas, z = solid_angles(256), directions(256)[..., 2]
    light = (raw * areas * z.clamp(min=0)).sum() / math.pi
    assert light.item() == pytest.approx(7 / 9, rel=5e-3)  # Moon and Spencer


def test_the_studio_and_the_sunset_light_from_the_left_of_their_front():
    for name in ("studio", "sunset"):
        left, right = irradiance(name, (0.7, -0.7, 0.1), (0.7, 0.7, 0.1))
        assert (left > 1.2 * right).all()


def test_a_sunset_is_warm_and_the_neutral_environment_has_no_colour():
    warm = irradiance("sunset", (1.0, 0.0, 0.0))[0]
    assert warm[0] > 1.3 * warm[2]
    picture = radiance("neutral", 16)
    assert torch.equal(picture[..., 0], picture[..., 2])
