"""Claims about pictures of the sphere: closed forms of convolutions, and looking things up."""

import math

import pytest
import torch

from dreamlab.ops.light.ggx import mirror_lobe
from dreamlab.ops.light.panorama import Panorama, convolve, directions, solid_angles


def cosine(c):
    """The kernel of diffuse light."""
    return c.clamp(min=0)


def unit(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 3, generator=draw, dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=1)


def test_texels_lie_where_the_conventions_say_and_cover_the_sphere():
    everywhere = directions(32)
    assert everywhere.shape == (32, 64, 3)
    torch.testing.assert_close(everywhere.norm(dim=-1), torch.ones(32, 64, dtype=torch.float64))
    assert everywhere[0, 0, 2] > 0.99 and everywhere[-1, 0, 2] < -0.99
    front, left = everywhere[16, 32], everywhere[16, 48]
    assert front[0] > 0.99 and left[1] > 0.99
    areas = solid_angles(32).expand(32, 64)
    assert areas.sum().item() == pytest.approx(4 * math.pi)
    mean = (everywhere.square() * areas[..., None]).sum((0, 1)) / (4 * math.pi)
    torch.testing.assert_close(mean, torch.full_like(mean, 1 / 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("roughness", [1 / 6, 0.5, 1.0])
def test_a_constant_environment_stays_constant(roughness):
    flat = torch.tensor([0.2, 1.0, 7.0], dtype=torch.float64).expand(16, 32, 3)
    for kernel in (cosine, lambda c: mirror_lobe(c, roughness)):
        torch.testing.assert_close(convolve(flat, kernel), flat)


def test_diffuse_light_of_a_slope_is_the_slope_times_two_thirds():
    """Funk-Hecke: the cosine lobe, of weight 1, shrinks the first harmonics to 2/3."""
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    slope = directions(64) @ axis
    blurred = convolve(slope[..., None], cosine)[..., 0]
    torch.testing.assert_close(blurred, slope * 2 / 3, atol=1e-3, rtol=0)


def test_a_single_small_lobe_lights_as_lamberts_law_says():
    """A lamp in direction l gives irradiance proportional to n . l."""
    everywhere = directions(64)
    lamp = everywhere[20, 37]
    picture = torch.zeros(64, 128, 1, dtype=torch.float64)
    picture[20, 37] = 1 / solid_angles(64)[20]
    light = convolve(picture, cosine)[..., 0] * math.pi
    expected = (everywhere @ lamp).clamp(min=0)
    torch.testing.assert_close(light, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("roughness", [1 / 6, 0.5])
def test_convolution_is_the_sum_over_all_texels(roughness):
    draw = torch.Generator().manual_seed(1)
    picture = torch.rand(64, 128, 3, generator=draw, dtype=torch.float64)
    blurred = convolve(picture, lambda c: mirror_lobe(c, roughness))
    everywhere, areas = directions(64), solid_angles(64)[..., None]
    for row, column in ((0, 3), (10, 127), (31, 64), (63, 0)):
        weight = mirror_lobe((everywhere @ everywhere[row, column])[..., None], roughness) * areas
        expected = (weight * picture).sum((0, 1)) / weight.sum()
        torch.testing.assert_close(blurred[row, column], expected)


def test_looking_up_is_exact_at_texels_and_continuous_at_the_seam():
    draw = torch.Generator().manual_seed(2)
    levels = torch.rand(3, 16, 32, 2, generator=draw, dtype=torch.float64)
    panorama = Panorama.of(levels)
    everywhere = directions(16).reshape(-1, 3)
    for level in range(3):
        found = panorama.at(everywhere, torch.full((16 * 32,), float(level), dtype=torch.float64))
        torch.testing.assert_close(found, levels[level].reshape(-1, 2))
    seam = torch.tensor([[-1.0, 1e-9, 0.2], [-1.0, -1e-9, 0.2]], dtype=torch.float64)
    left, right = panorama.at(torch.nn.functional.normalize(seam, dim=1))
    torch.testing.assert_close(left, right, atol=1e-6, rtol=0)


def test_looking_up_is_linear_in_direction_components_up_to_the_grid():
    panorama = Panorama.of(directions(64)[None])
    points = unit(200)
    torch.testing.assert_close(panorama.at(points), points, atol=2e-3, rtol=0)


def test_gradients_agree_with_finite_differences_and_are_finite_at_the_poles():
    draw = torch.Generator().manual_seed(3)
    levels = torch.rand(4, 8, 16, 3, generator=draw, dtype=torch.float64)
    panorama = Panorama.of(levels)
    level = torch.rand(10, generator=draw, dtype=torch.float64) * 2.9 + 0.05
    points = unit(10, seed=4)
    assert torch.autograd.gradcheck(
        panorama.at, (points.requires_grad_(), level.requires_grad_()), eps=1e-7
    )
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], requires_grad=True)
    Panorama.of(levels.float()).at(poles).sum().backward()
    assert poles.grad is not None and poles.grad.isfinite().all()
