"""Claims about rough reflection, against Monte-Carlo sums and closed forms."""

import math

import pytest
import torch

from dreamlab.ops.light.ggx import distribution, mirror_lobe, reflectance_table, visibility

SIZE = 32
TABLE = reflectance_table(SIZE)


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0])
def test_the_projected_area_of_the_microfacets_is_that_of_the_surface(alpha):
    # in the tangent of half the angle, which spreads narrow peaks
    edge = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    middle = (edge[1:] + edge[:-1]) / 2
    cosine = (1 - middle**2) / (1 + middle**2)
    width = -((1 - edge**2) / (1 + edge**2)).diff()
    area = (distribution(cosine, alpha) * cosine * width).sum() * 2 * math.pi
    assert area.item() == pytest.approx(1, abs=1e-5)


def test_a_mirror_reflects_as_fresnel_says():
    n_v = (torch.arange(SIZE) + 0.5) / SIZE
    grazing = (1 - n_v) ** 5
    torch.testing.assert_close(TABLE[0, :, 1], grazing, atol=1e-3, rtol=0)
    torch.testing.assert_close(TABLE[0].sum(-1), torch.ones(SIZE), atol=1e-3, rtol=0)


def test_a_surface_never_reflects_more_than_it_gets_and_less_the_rougher_it_is():
    """White furnace: A + B is the reflected share of white light at F0 = 1."""
    share = TABLE.sum(-1)
    assert (TABLE >= 0).all() and (share <= 1 + 1e-4).all()
    from_above = share[:, -1]
    assert (from_above.diff() < 1e-4).all() and 0.3 < from_above[-1] < 0.8


@pytest.mark.parametrize(("row", "column"), [(9, 3), (16, 16), (24, 8), (31, 30)])
def test_the_table_agrees_with_light_from_random_directions(row, column):
    """Monte-Carlo over l, uniform on the hemisphere, straight from the definition of f."""
    alpha = ((row + 0.5) / SIZE) ** 2
    n_v = (column + 0.5) / SIZE
    draw = torch.Generator().manual_seed(row)
    count = 400_000
    n_l = torch.rand(count, generator=draw, dtype=torch.float64)
    azimuth = 2 * math.pi * torch.rand(count, generator=draw, dtype=torch.float64)
    sine = (1 - n_l**2).sqrt()
    light = torch.stack([sine * azimuth.cos(), sine * azimuth.sin(), n_l], dim=1)
    camera = torch.tensor([math.sqrt(1 - n_v**2), 0.0, n_v], dtype=torch.float64)
    half = torch.nn.functional.normalize(light + camera, dim=1)
    v_h = half @ camera
    without_fresnel = distribution(half[:, 2], alpha) * n_l
    without_fresnel = without_fresnel * visibility(n_l, torch.full_like(n_l, n_v), alpha)
    values = 2 * math.pi * without_fresnel
    grazing = (1 - v_h) ** 5
    parts = torch.stack([values * (1 - grazing), values * grazing], dim=1)
    error = 4 * parts.std(dim=0) / math.sqrt(count) + 0.004
    assert ((parts.mean(dim=0) - TABLE[row, column]).abs() < error).all()


def test_the_mirror_lobe_is_the_density_of_reflected_microfacets():
    """Sampled as in Karis 2013: h by D n.h around n = v, l mirrored, weight n.l."""
    roughness = 0.5
    alpha = roughness**2
    draw = torch.Generator().manual_seed(0)
    u = torch.rand(400_000, generator=draw, dtype=torch.float64)
    n_h = ((1 - u) / (1 + (alpha**2 - 1) * u)).sqrt()
    cosine = 2 * n_h**2 - 1
    weight = cosine.clamp(min=0)
    sampled = (weight * cosine).sum() / weight.sum()
    edge = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    middle = (edge[1:] + edge[:-1]) / 2
    lobe = mirror_lobe(middle, roughness)
    assert sampled.item() == pytest.approx(((lobe * middle).sum() / lobe.sum()).item(), abs=2e-3)
