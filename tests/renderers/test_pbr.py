"""Claims about physically based shading: energy, closed forms, symmetry, gradients."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.config import build, to_plain
from dreamlab.core.protocols import Material
from dreamlab.ops.light.ggx import distribution, visibility
from dreamlab.ops.light.panorama import directions, solid_angles
from dreamlab.ops.light.srgb import to_linear, to_srgb
from dreamlab.renderers.environments import radiance
from dreamlab.renderers.pbr import (
    Environment,
    EnvironmentConfig,
    Surroundings,
    load_environment,
    sample_surroundings,
    shade_material,
)

CPU = torch.device("cpu")
ROUGHNESS = torch.linspace(0.05, 1, 20, dtype=torch.float64)


@pytest.fixture(scope="module")
def furnace() -> Environment:
    """Light of radiance 1 from everywhere."""
    return Environment.of(torch.ones(64, 128, 3, dtype=torch.float64)).to(ROUGHNESS)


@pytest.fixture(scope="module")
def studio() -> Environment:
    return load_environment("studio", CPU, torch.float64)


def around(environment, count, scale=1.0, turn=0.0):
    return Surroundings(environment, scale, torch.full((count,), turn, dtype=torch.float64))


def surface(count=20, albedo=0.5, metallic=0.0, roughness=None):
    rough = torch.full((count, 1), 0.5) if roughness is None else roughness[:, None]
    return Material(
        albedo=torch.full((count, 3), albedo, dtype=torch.float64),
        metallic=torch.full((count, 1), metallic, dtype=torch.float64),
        roughness=rough.double(),
    )


def pairs(count, seed=0):
    """Normals and directions to a camera that sees them."""
    draw = torch.Generator().manual_seed(seed)
    normal = normalize(torch.randn(count, 3, generator=draw, dtype=torch.float64), dim=1)
    view = normalize(torch.randn(count, 3, generator=draw, dtype=torch.float64), dim=1)
    return normal, torch.where((view * normal).sum(1, keepdim=True) < 0, -view, view)


@pytest.mark.parametrize("metallic", [0.0, 0.5, 1.0])
def test_in_a_white_furnace_nothing_shines_and_no_surface_gains_light(furnace, metallic):
    normal, view = pairs(20)
    for albedo in (0.0, 0.5, 1.0):
        material = surface(20, albedo, metallic, ROUGHNESS)
        seen = to_linear(shade_material(material, normal, view, around(furnace, 20, scale=0.5)))
        assert (seen <= 0.5 + 1e-4).all()  # half as bright as could be seen: nothing is clipped
    if metallic == 0:  # a white object cannot be told from the light around it
        torch.testing.assert_close(seen, torch.full_like(seen, 0.5), atol=1e-6, rtol=0)


def test_a_matt_surface_seen_from_above_shows_its_albedo_in_a_furnace(furnace):
    """What is not reflected, 1 - S with S near 0.04, is scattered with the albedo's colour."""
    normal = view = pairs(1)[0]
    material = surface(1, 0.5, roughness=torch.ones(1))
    seen = to_linear(shade_material(material, normal, view, around(furnace, 1)))
    black = to_linear(
        shade_material(surface(1, 0.0, roughness=torch.ones(1)), normal, view, around(furnace, 1))
    )
    expected = black + (1 - black) * to_linear(material.albedo)
    torch.testing.assert_close(seen, expected, atol=1e-6, rtol=0)
    assert 0.01 < black[0, 0] < 0.06


def test_a_smooth_metal_shows_the_environment_in_its_own_colour(studio):
    normal, view = pairs(300, seed=1)
    facing = (normal * view).sum(1) > 0.7  # where the Fresnel term is below 0.003
    normal, view = normal[facing], view[facing]
    count = len(normal)
    material = surface(count, 0.6, metallic=1.0, roughness=torch.zeros(count))
    seen = shade_material(material, normal, view, around(studio, count, scale=0.1))
    mirrored = 2 * (normal * view).sum(1, keepdim=True) * normal - view
    picture = studio.mirrored.at(mirrored)
    expected = to_srgb((0.1 * to_linear(material.albedo) * picture).clamp(0, 1))
    torch.testing.assert_close(seen, expected, atol=5e-3, rtol=0)


def test_a_rough_surface_agrees_with_the_full_integral_where_the_split_is_exact():
    """Summed over all directions of light, no split: seen along the normal the two nearly agree."""
    picture = radiance("overcast", 64)
    environment = Environment.of(picture).to(picture)
    normal = view = normalize(torch.tensor([[1.0, 0.3, 0.4]], dtype=torch.float64), dim=1)
    light, areas = directions(64).reshape(-1, 3), solid_angles(64).expand(64, 128).reshape(-1, 1)
    for roughness in (0.4, 0.8):
        material = surface(1, 0.7, metallic=1.0, roughness=torch.tensor([roughness]))
        seen = to_linear(shade_material(material, normal, view, around(environment, 1, scale=0.3)))
        n_l = (light @ normal[0]).clamp(min=0)[:, None]
        half = normalize(light + view, dim=1)
        f0 = to_linear(material.albedo)
        fresnel = f0 + (1 - f0) * (1 - (half @ view[0])[:, None]) ** 5
        facets = distribution((half @ normal[0])[:, None], roughness**2)
        shadows = visibility(n_l.clamp(min=1e-6), torch.ones_like(n_l), roughness**2)
        full = (facets * shadows * fresnel * n_l * areas * picture.reshape(-1, 3)).sum(0)
        assert ((seen[0] - 0.3 * full).abs() / (0.3 * full)).max() < 0.05


def test_turning_the_light_is_turning_the_object_and_the_camera_back(studio):
    normal, view = pairs(40, seed=2)
    turn = math.pi / 64 * 7  # seven texels
    cos, sin = math.cos(-turn), math.sin(-turn)
    back = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64).T
    material = surface(40, 0.6, 0.5)
    turned = shade_material(material, normal, view, around(studio, 40, turn=turn))
    moved = shade_material(material, normal @ back, view @ back, around(studio, 40))
    torch.testing.assert_close(turned, moved, atol=1e-9, rtol=0)


def test_bumps_bend_the_normal_across_and_never_turn_it_over():
    normal, _ = pairs(50, seed=3)
    draw = torch.Generator().manual_seed(4)
    bump = 5 * torch.randn(50, 3, generator=draw, dtype=torch.float64)
    plain = surface(50)
    assert plain.bend(normal) is normal
    bent = Material(plain.albedo, plain.metallic, plain.roughness, bump).bend(normal)
    torch.testing.assert_close(bent.norm(dim=1), torch.ones(50, dtype=torch.float64))
    assert ((bent * normal).sum(1) > 0).all()
    along = Material(plain.albedo, plain.metallic, plain.roughness, 3 * normal).bend(normal)
    torch.testing.assert_close(along, normal)


def test_gradients_to_all_of_the_material_agree_with_finite_differences(studio):
    normal, view = pairs(6, seed=5)
    draw = torch.Generator().manual_seed(6)
    albedo, bump = (torch.rand(6, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    metallic, roughness = (
        0.1 + 0.8 * torch.rand(6, 1, generator=draw, dtype=torch.float64) for _ in range(2)
    )

    def seen(albedo, metallic, roughness, bump, normal):
        material = Material(albedo, metallic, roughness, bump)
        return shade_material(material, normal, view, around(studio, 6, scale=0.05))

    inputs = [x.requires_grad_() for x in (albedo, metallic, roughness, bump, normal)]
    assert torch.autograd.gradcheck(seen, inputs, eps=1e-7, atol=1e-4)
    gradients = torch.autograd.grad(seen(*inputs).sum(), inputs)
    assert all(gradient.abs().max() > 1e-4 for gradient in gradients)


def test_a_view_does_not_depend_on_its_batch(studio):
    normal, view = pairs(8, seed=7)
    material = surface(8, 0.6, 0.3)
    turn = torch.linspace(0, 3, 8, dtype=torch.float64)
    light = Surroundings(studio, 0.7, turn)
    together = shade_material(material, normal, view, light)
    one = torch.tensor([5])
    alone = Material(material.albedo[one], material.metallic[one], material.roughness[one])
    seen = shade_material(alone, normal[one], view[one], light.of(one))
    torch.testing.assert_close(seen, together[one])


def test_each_view_turns_the_light_within_what_is_set():
    cameras = turntable_cameras(64, distance=3.0, fov_y=40.0)
    generator = torch.Generator().manual_seed(0)
    free = sample_surroundings(EnvironmentConfig(name="neutral"), cameras, generator).turn
    assert free.abs().max() <= math.pi and free.min() < -2.5 and free.max() > 2.5
    config = EnvironmentConfig(name="neutral", turn=10.0, follow_camera=True)
    off = sample_surroundings(config, cameras, generator).turn - torch.deg2rad(cameras.azimuth)
    assert off.abs().max() <= math.radians(10.001) and off.std() > math.radians(3)
    fixed = sample_surroundings(EnvironmentConfig(name="neutral", turn=0.0), cameras, generator)
    assert not fixed.turn.any()


def test_an_environment_is_made_once():
    assert load_environment("neutral", CPU) is load_environment("neutral", CPU)


@pytest.mark.parametrize("settings", [{"scale": 0.0}, {"turn": -1.0}, {"turn": 200.0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        EnvironmentConfig(**settings)


def test_settings_survive_a_round_trip():
    config = EnvironmentConfig(name="sunset", scale=0.5, turn=30.0, follow_camera=True)
    assert build(EnvironmentConfig, to_plain(config)) == config
