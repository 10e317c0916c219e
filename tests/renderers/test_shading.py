"""Claims about lighting."""

import math

import pytest
import torch

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.config import build, to_plain
from dreamlab.core.errors import InputError
from dreamlab.renderers.pbr import EnvironmentConfig
from dreamlab.renderers.shading import (
    Shading,
    ShadingConfig,
    headlight,
    sample_shading,
    shade,
    unlit,
)

CAMERAS = turntable_cameras(4, distance=3.0, fov_y=40.0)


def lit_from_above(mode, ambient=0.25) -> Shading:
    return Shading(mode, torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([ambient]))


def test_a_lit_surface_follows_the_formula():
    tilt = math.radians(60)
    normal = torch.tensor([[math.sin(tilt), 0.0, math.cos(tilt)]])
    albedo = torch.tensor([[0.8, 0.4, 0.0]])
    light = 0.25 + 0.75 * 0.5
    assert torch.allclose(shade(albedo, normal, lit_from_above("lambertian")), albedo * light)
    white = shade(albedo, normal, lit_from_above("textureless"))
    assert torch.allclose(white, torch.full((1, 3), light))
    assert shade(albedo, normal, lit_from_above("albedo")) is albedo


def test_a_surface_turned_away_gets_ambient_light_only_and_no_gradient():
    normal = torch.tensor([[0.0, 0.6, -0.8]], requires_grad=True)
    color = shade(torch.ones(1, 3), normal, lit_from_above("lambertian"))
    assert torch.allclose(color, torch.full((1, 3), 0.25))
    color.sum().backward()
    assert normal.grad is not None
    assert not normal.grad.any()


def test_images_are_lit_per_view():
    shading = Shading("lambertian", torch.eye(3)[:2], torch.tensor([0.0, 0.5]))
    normal = torch.tensor([1.0, 0.0, 0.0]).expand(2, 5, 4, 3)
    image = shade(torch.ones(2, 5, 4, 3), normal, shading)
    assert torch.equal(image[0], torch.ones(5, 4, 3))
    assert torch.equal(image[1], torch.full((5, 4, 3), 0.5))
    pixels = shade(torch.ones(3, 3), normal[0, 0, :3], shading.of(torch.tensor([1, 0, 1])))
    assert torch.equal(pixels[:, 0], torch.tensor([0.5, 1.0, 0.5]))


def test_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(0)
    albedo = torch.rand(4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    normal = torch.randn(4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    light = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    shading = Shading("lambertian", light, torch.full((4,), 0.3, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda a, n: shade(a, n, shading), (albedo, normal))


def test_modes_appear_with_their_probabilities_once_the_ambient_phase_is_over():
    config = ShadingConfig(ambient_until=0.5, albedo=0.2, lambertian=0.5, textureless=0.3)
    generator = torch.Generator().manual_seed(3)
    before = {sample_shading(config, 0.49, CAMERAS, generator).mode for _ in range(50)}
    assert before == {"albedo"}
    modes = [sample_shading(config, 0.5, CAMERAS, generator).mode for _ in range(2000)]
    for mode, chance in (("albedo", 0.2), ("lambertian", 0.5), ("textureless", 0.3)):
        assert modes.count(mode) / 2000 == pytest.approx(chance, abs=0.04)


def test_physically_based_views_appear_with_their_probability_and_bring_their_light():
    neutral = EnvironmentConfig(name="neutral", turn=20.0)
    config = ShadingConfig(
        ambient_until=0.0, lambertian=0.0, textureless=0.0, pbr=0.75, environment=neutral
    )
    generator = torch.Generator().manual_seed(3)
    drawn = [sample_shading(config, 0.5, CAMERAS, generator) for _ in range(1000)]
    modes = [shading.mode for shading in drawn]
    assert set(modes) == {"albedo", "pbr"}
    assert modes.count("pbr") / 1000 == pytest.approx(0.75, abs=0.05)
    around = drawn[0].of(torch.tensor([2, 2, 0])).surroundings
    assert around is not None and around.turn.shape == (3,) and around.turn[0] == around.turn[1]


def test_without_physically_based_views_no_further_numbers_are_drawn():
    """Recipes that do not use them keep their random numbers."""
    first, second = (torch.Generator().manual_seed(4) for _ in range(2))
    shading = sample_shading(ShadingConfig(ambient_until=0.0), 1.0, CAMERAS, first)
    assert shading.surroundings is None
    torch.rand((), generator=second)
    torch.randn(4, 3, generator=second)
    torch.rand(4, generator=second)
    assert torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=second))


def test_an_albedo_alone_cannot_be_shaded_physically():
    with pytest.raises(InputError, match="material"):
        shade(torch.ones(1, 3), torch.eye(3)[:1], lit_from_above("pbr"))


def test_the_default_never_lights_not_even_at_the_end():
    generator = torch.Generator().manual_seed(0)
    modes = {sample_shading(ShadingConfig(), 1.0, CAMERAS, generator).mode for _ in range(50)}
    assert modes == {"albedo"}


def test_lights_are_unit_vectors_near_their_camera():
    generator = torch.Generator().manual_seed(0)
    config = ShadingConfig(ambient=(0.2, 0.6), light_spread=0.1)
    shading = sample_shading(config, 0.0, CAMERAS, generator)
    assert torch.allclose(shading.light_direction.norm(dim=-1), torch.ones(4))
    cosine = (shading.light_direction * CAMERAS.position / 3).sum(-1)
    assert (cosine > 0.9).all()
    assert ((shading.ambient >= 0.2) & (shading.ambient <= 0.6)).all()
    towards = headlight(CAMERAS, "textureless", 0.1).light_direction
    assert torch.allclose(towards, CAMERAS.position / 3, atol=1e-6)
    assert not unlit(CAMERAS).needs_normals


@pytest.mark.parametrize(
    "settings",
    [
        {"albedo": -0.1},
        {"pbr": -0.1},
        {"albedo": 0.0, "lambertian": 0.0, "textureless": 0.0},
        {"ambient": (0.5, 0.2)},
        {"ambient_until": 1.5},
        {"light_spread": -1.0},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        ShadingConfig(**settings)


def test_settings_survive_a_round_trip():
    config = ShadingConfig(ambient_until=0.2, ambient=(0.0, 1.0))
    assert build(ShadingConfig, to_plain(config)) == config
