"""Images agree with closed forms on a sphere, and with the shading formula everywhere."""

import numpy as np
import pytest
import torch

from dreamlab.core.cameras import Cameras
from dreamlab.core.render import Render
from dreamlab.priors.toybox.world.palette import COLORS
from dreamlab.priors.toybox.world.scenes import Item, Scene, pack
from dreamlab.priors.toybox.world.tracer import trace
from dreamlab.priors.toybox.world.views import Views, sample_views

BALL = Scene((Item("sphere", "red", size="big"),))
RADIUS = 0.85


def draw(scenes: list[Scene], views: Views, **options) -> Render:
    options = {"size": 64} | options
    return trace(
        pack(scenes),
        views.cameras,
        light=views.light_direction,
        ambient=views.ambient,
        background=views.background,
        **options,
    )


@pytest.fixture(scope="module")
def views() -> Views:
    return sample_views(np.random.default_rng(3), 6)


def hit_sphere(cameras: Cameras, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance along every pixel's ray to the ball, and how close to it the ray passes."""
    origin, direction = cameras.rays(size, size)
    along = -(origin * direction).sum(-1)
    miss = (origin + along[..., None] * direction).norm(dim=-1)
    return along - (RADIUS**2 - miss**2).clamp(min=0).sqrt(), miss


def test_one_ray_per_pixel_hits_a_sphere_where_the_closed_form_says(views: Views) -> None:
    images = draw([BALL], views, samples=1)
    depth, miss = hit_sphere(views.cameras, 64)
    clear = (miss - RADIUS).abs() > 2e-3
    hit = miss < RADIUS
    assert ((images.alpha[..., 0] == 1) == hit)[clear].all()
    inner = miss < 0.98 * RADIUS
    assert (images.depth[..., 0] - depth)[inner].abs().max() < 5e-3
    origin, direction = views.cameras.rays(64, 64)
    normal = (origin + depth[..., None] * direction) / RADIUS
    assert (images.normal * normal).sum(-1)[inner].min() > 0.999


def test_alpha_is_the_share_of_the_pixel_that_a_sphere_covers(views: Views) -> None:
    images = draw([BALL], views, samples=2)
    _, miss = hit_sphere(views.cameras, 64 * 8)
    cover = (miss < RADIUS).float().reshape(6, 64, 8, 64, 8).mean(dim=(2, 4))
    error = (images.alpha[..., 0] - cover).abs()
    assert error.max() < 0.3  # four rays a pixel
    assert error.mean() < 5e-3
    np.testing.assert_allclose(images.alpha.sum(), cover.sum(), rtol=3e-3)


def test_shading_is_lambert_plus_ambient_on_srgb_values(views: Views) -> None:
    images = draw([BALL], views, samples=1)
    hit = images.alpha[..., 0] == 1
    lambert = (images.normal * views.light_direction[:, None, None]).sum(-1).clamp(min=0)
    ambient = views.ambient[:, None, None]
    expected = (ambient + (1 - ambient) * lambert)[..., None] * torch.tensor(COLORS["red"])
    assert (images.rgb - expected)[hit].abs().max() < 1e-5
    assert (images.rgb - views.background[:, None, None])[~hit].abs().max() < 1e-6


def test_a_scene_looks_the_same_alone_and_in_a_batch(views: Views) -> None:
    scenes = [Scene((Item(name, "blue", "dotted"),)) for name in ("duck", "mug", "car")] * 2
    together = draw(scenes, views)
    alone = draw([scenes[4]], Views(*(part[4:5] for part in vars(views).values())))
    assert torch.equal(together.rgb[4:5], alone.rgb)


def test_patterns_show_both_colors_in_readable_shares(views: Views) -> None:
    for pattern, (low, high) in {
        "striped": (0.4, 0.6),
        "checkered": (0.4, 0.6),
        "dotted": (0.2, 0.45),
    }.items():
        lit = Views(views.cameras, views.light_direction, torch.ones(6), views.background)
        images = draw([Scene((Item("sphere", "red", pattern, "blue"),))], lit)
        inside = images.alpha[..., 0] == 1
        blue = images.rgb[..., 2][inside]
        share = (blue > 0.5).float().mean()
        assert low < share < high, pattern


def test_the_front_is_seen_from_plus_x(views: Views) -> None:
    # the snowman's orange nose points at the camera of azimuth 0 and is hidden from behind
    cameras = Views(
        _at(0.0, 180.0), torch.tensor([[1.0, 0, 0]] * 2), torch.ones(2), torch.zeros(2, 3)
    )
    front, back = draw([Scene((Item("snowman", "white"),))], cameras).rgb
    orange = [((image[..., 0] > 0.8) & (image[..., 2] < 0.3)).sum() for image in (front, back)]
    assert orange[0] > 5
    assert orange[1] == 0


def test_the_number_of_scenes_must_fit_the_number_of_cameras(views: Views) -> None:
    with pytest.raises(ValueError, match="2 scenes for 6 cameras"):
        draw([BALL, BALL], views)


def _at(*azimuths: float) -> Cameras:
    from dreamlab.core.cameras import orbit_cameras

    ones = torch.ones(len(azimuths))
    return orbit_cameras(torch.tensor(azimuths), 10 * ones, 3 * ones, 40 * ones)
