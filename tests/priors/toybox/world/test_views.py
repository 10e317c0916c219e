"""Training views stay in the documented ranges; view words split the sphere."""

import numpy as np
import pytest
import torch

from dreamlab.priors.toybox.world.views import RANGES, VIEW_WORDS, sample_views, view_word


@pytest.mark.parametrize(
    ("azimuth", "elevation", "word"),
    [
        (0, 0, "front"),
        (45, 0, "front"),
        (-45, 30, "front"),
        (46, 0, "side"),
        (-90, 45, "side"),
        (134, 0, "side"),
        (135, 0, "back"),
        (-180, 0, "back"),
        (225, 10, "back"),
        (360, 0, "front"),
        (0, 60, "front"),
        (0, 60.5, "overhead"),
        (170, 80, "overhead"),
    ],
)
def test_view_words_name_bins_of_the_sphere(azimuth: float, elevation: float, word: str) -> None:
    assert view_word(float(azimuth), float(elevation)) == word


def test_views_stay_in_their_ranges_and_use_all_of_them() -> None:
    n = 4000
    views = sample_views(np.random.default_rng(0), n)
    cameras = views.cameras
    overhead = cameras.elevation > 60
    assert abs(float(overhead.float().mean()) - RANGES.overhead_share) < 0.02
    for values, (low, high) in (
        (cameras.elevation[~overhead], RANGES.elevation),
        (cameras.elevation[overhead], RANGES.overhead),
        (cameras.azimuth, RANGES.azimuth),
        (cameras.distance, RANGES.distance),
        (cameras.fov_y, RANGES.fov_y),
        (views.ambient, RANGES.ambient),
    ):
        assert low - 1e-4 <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high + 1e-4
    torch.testing.assert_close(cameras.position.norm(dim=-1), cameras.distance)
    assert views.background.min() >= 0
    assert views.background.max() <= 1
    white = (views.background == 1).all(-1).float().mean()
    assert abs(float(white) - RANGES.white_share) < 0.03
    words = {
        view_word(float(a), float(e))
        for a, e in zip(cameras.azimuth, cameras.elevation, strict=True)
    }
    assert words == set(VIEW_WORDS)


def test_light_comes_from_above_and_from_the_side_of_the_camera() -> None:
    views = sample_views(np.random.default_rng(1), 2000)
    light = views.light_direction
    torch.testing.assert_close(light.norm(dim=-1), torch.ones(2000))
    assert light[:, 2].min() > 0
    toward = views.cameras.position / views.cameras.distance[:, None]
    assert (light * toward).sum(-1).min() > 0


def test_the_scene_ball_fits_every_view() -> None:
    # a ball of radius r at distance d spans the half angle asin(r / d)
    widest = np.rad2deg(np.arcsin(0.85 / RANGES.distance[0]))
    assert widest < RANGES.fov_y[0] / 2
