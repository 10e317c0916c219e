import numpy as np
import pytest
import torch

from dreamlab.priors.toybox.training.twins import GROUP, sample_twins
from dreamlab.priors.toybox.world.scenes import is_held_out
from dreamlab.priors.toybox.world.views import view_word


def words(views):
    angles = zip(views.cameras.azimuth.tolist(), views.cameras.elevation.tolist(), strict=True)
    return [view_word(*pair) for pair in angles]


@pytest.mark.parametrize("index", range(6))
def test_twins_share_all_that_no_caption_tells(index):
    scenes, views = sample_twins(np.random.default_rng(index), index)
    assert len(scenes) == len(views.cameras) == GROUP
    assert not any(is_held_out(scene) for scene in scenes)
    for shared in (
        views.cameras.distance,
        views.cameras.fov_y,
        views.ambient,
        views.background,
    ):
        assert (shared == shared[0]).all()


def test_a_group_of_views_shows_two_objects_from_four_sides():
    for seed in range(20):
        scenes, views = sample_twins(np.random.default_rng(seed), 0)
        assert scenes[0] == scenes[3] and scenes[4] == scenes[7]
        assert words(views) == ["front", "side", "back", "overhead"] * 2


def test_a_group_of_objects_shares_paint_and_view():
    for seed in range(20):
        scenes, views = sample_twins(np.random.default_rng(seed), 1)
        assert len({(s.items[0].color, s.items[0].pattern) for s in scenes}) == 1
        assert len({s.items[0].object for s in scenes}) > 3
        assert len(set(words(views))) == 1


def test_twins_have_the_light_where_the_camera_sees_it():
    _, views = sample_twins(np.random.default_rng(0), 0)
    # the light in camera axes: the same for the views of one elevation
    rotation = views.cameras.camera_to_world[:, :3, :3]
    seen = torch.einsum("nij,ni->nj", rotation, views.light_direction)
    torch.testing.assert_close(seen[1:3], seen[:1].expand(2, 3), atol=1e-5, rtol=0)
    assert views.light_direction[:, 2].min() > 0
