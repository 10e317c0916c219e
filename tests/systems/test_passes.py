"""Claims about what the steps of a run with a layout show, and from where."""

from collections import Counter

import pytest
import torch

from dreamlab.core.cameras import orbit_cameras
from dreamlab.core.layout import Box, Layout
from dreamlab.core.regions import Regions
from dreamlab.guidance.semantic import cameras_about
from dreamlab.systems.passes import PassConfig, look_at_shown, moved

LAYOUT = Layout(
    (
        Box("a", (0.3, -0.4, 0.1), (0.4, 0.6, 0.5), yaw=40.0, front=15.0),
        Box("b", (-0.2, 0.4, 0.0), (0.3, 0.3, 0.3)),
        Box("c", (0.0, 0.0, 0.6), (0.2, 0.2, 0.4), yaw=-90.0),
    )
)


def views():
    azimuth = torch.tensor([0.0, 50.0, -120.0, 179.0])
    one = torch.ones_like(azimuth)
    return orbit_cameras(azimuth, torch.tensor([0.0, 30.0, 50.0, -10.0]), 3 * one, 40 * one)


def test_a_round_shows_each_object_each_pair_and_the_scene_as_often_as_asked():
    config = PassConfig(alone=6, pairs=1, scene=2)
    shown = [config.shown_at(step, 3) for step in range(2 * (18 + 3 + 2))]
    expected = {(0,): 6, (1,): 6, (2,): 6, (0, 1): 1, (0, 2): 1, (1, 2): 1, (0, 1, 2): 2}
    assert Counter(shown) == {objects: 2 * count for objects, count in expected.items()}
    assert shown[:23] == shown[23:]


def test_by_default_every_step_shows_everything():
    assert {PassConfig().shown_at(step, 3) for step in range(9)} == {(0, 1, 2)}


def test_what_there_is_not_is_not_shown():
    assert PassConfig(alone=0, pairs=1, scene=0).shown_at(5, 2) == (0, 1)
    assert PassConfig(alone=2, pairs=1, scene=1).round(1) == [(0,)] * 3


@pytest.mark.parametrize(
    "settings", [{"alone": -1}, {"scene": 0}, {"pairs": -2, "alone": 3}, {"framing": 0.0}]
)
def test_settings_that_show_nothing_are_refused(settings: dict):
    with pytest.raises(ValueError, match="must be"):
        PassConfig(**settings)


def test_an_object_alone_is_seen_in_its_own_frame_as_the_scene_would_be():
    cameras = views()
    for k, box in enumerate(LAYOUT.boxes):
        seen = look_at_shown(cameras, LAYOUT, (k,), framing=0.85)
        scale = box.radius / 0.85
        own = cameras_about(box, seen)
        torch.testing.assert_close(own.elevation, cameras.elevation, atol=1e-3, rtol=0)
        turn = (own.azimuth - cameras.azimuth + 180) % 360 - 180
        torch.testing.assert_close(turn, torch.zeros(4), atol=1e-3, rtol=0)
        torch.testing.assert_close(own.distance, scale * cameras.distance)
        torch.testing.assert_close(seen.distance, own.distance)
        # the box is drawn where a box of the same shape at the origin would be
        unit = torch.tensor(box.corners()) - torch.tensor(box.center)
        home = moved(cameras, torch.zeros(3), turn=box.facing, scale=scale)
        torch.testing.assert_close(
            clip(seen, unit + torch.tensor(box.center)), clip(home, unit), atol=1e-4, rtol=1e-4
        )


def clip(cameras, points):
    homogeneous = torch.cat([points, torch.ones(len(points), 1)], dim=1)
    places = homogeneous @ cameras.world_to_clip().transpose(1, 2)
    return places[..., :2] / places[..., 3:]


def test_moved_cameras_are_rigid_and_look_at_the_new_centre():
    cameras = views()
    center = torch.tensor([0.2, -0.1, 0.3])
    seen = moved(cameras, center, turn=70.0, scale=0.5)
    rotation = seen.camera_to_world[:, :3, :3]
    torch.testing.assert_close(
        rotation @ rotation.transpose(1, 2), torch.eye(3).expand(4, 3, 3), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(clip(seen, center[None]), torch.zeros(4, 1, 2), atol=1e-5, rtol=0)
    offset = seen.position - center
    torch.testing.assert_close(offset.norm(dim=1), 1.5 * torch.ones(4))


def test_pairs_are_seen_from_as_far_as_the_scene():
    cameras = views()
    assert look_at_shown(cameras, LAYOUT, (0, 1, 2), 0.85) is cameras
    seen = look_at_shown(cameras, LAYOUT, (0, 1), 0.85)
    middle = (Regions.of(LAYOUT).centers[0] + Regions.of(LAYOUT).centers[1]) / 2
    torch.testing.assert_close(seen.position - middle, cameras.position)
    assert torch.equal(seen.azimuth, cameras.azimuth)
