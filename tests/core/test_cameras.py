"""Claims about cameras: where they stand, where they look, where their rays go."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamlab.core.cameras import (
    CameraRanges,
    Cameras,
    look_at,
    orbit_cameras,
    sample_cameras,
    turntable_cameras,
)

TIGHT = {"rtol": 1e-5, "atol": 1e-5}


def one_camera(
    azimuth: float = 0.0, elevation: float = 0.0, distance: float = 3.0, fov_y: float = 40.0
) -> Cameras:
    values = (azimuth, elevation, distance, fov_y)
    return orbit_cameras(*(torch.tensor([value], dtype=torch.float64) for value in values))


@pytest.mark.parametrize(
    ("azimuth", "elevation", "position"),
    [(0, 0, (3, 0, 0)), (90, 0, (0, 3, 0)), (180, 0, (-3, 0, 0)), (0, 89.9999, (0, 0, 3))],
)
def test_azimuth_zero_sees_the_front_and_ninety_stands_on_plus_y(azimuth, elevation, position):
    camera = one_camera(float(azimuth), float(elevation))
    expected = torch.tensor([position], dtype=torch.float64)
    torch.testing.assert_close(camera.position, expected, rtol=0, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.floats(-720, 720), st.floats(-85, 85), st.floats(0.5, 10), st.floats(5, 150))
def test_an_orbit_camera_is_a_rigid_motion_that_projects_the_origin_to_the_centre(
    azimuth, elevation, distance, fov_y
):
    camera = one_camera(azimuth, elevation, distance, fov_y)
    rotation = camera.camera_to_world[0, :3, :3]
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(rotation @ rotation.T, identity, **TIGHT)
    assert torch.linalg.det(rotation).item() == pytest.approx(1.0)
    assert rotation[2, 0].item() == pytest.approx(0.0, abs=1e-9), "x stays level: no roll"
    assert rotation[2, 1].item() > 0, "camera y points up in the world"
    clip = camera.world_to_clip(far=1000.0)[0] @ torch.tensor([0, 0, 0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(clip[:2], torch.zeros(2, dtype=torch.float64), **TIGHT)
    assert clip[3].item() == pytest.approx(distance)
    assert -180 <= camera.azimuth.item() < 180


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.floats(-180, 180), st.floats(-60, 60))
def test_points_on_a_pixels_ray_project_back_onto_its_centre(height, width, azimuth, elevation):
    camera = one_camera(azimuth, elevation)
    origins, directions = camera.rays(height, width)
    points = origins + 2.5 * directions
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
    clip = homogeneous @ camera.world_to_clip(aspect=width / height)[0].T
    ndc = clip[..., :2] / clip[..., 3:]
    pixel_x = (ndc[..., 0] + 1) / 2 * width
    pixel_y = (1 - ndc[..., 1]) / 2 * height
    x = (torch.arange(width) + 0.5).expand(1, height, width)
    y = (torch.arange(height) + 0.5)[:, None].expand(1, height, width)
    torch.testing.assert_close(pixel_x, x.double(), **TIGHT)
    torch.testing.assert_close(pixel_y, y.double(), **TIGHT)


def test_ray_directions_are_unit_vectors_and_row_zero_is_the_top():
    _, directions = one_camera().rays(4, 4)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(1, 4, 4).double(), **TIGHT)
    assert directions[0, 0, 0, 2] > directions[0, -1, 0, 2]
    assert directions[0, 0, 0, 1] < directions[0, 0, -1, 1], "from the front, +y is on the right"


def test_the_vertical_field_of_view_spans_the_image_height():
    camera = one_camera(fov_y=60.0)
    _, directions = camera.rays(2001, 1)
    half = math.degrees(math.asin(directions[0, 0, 0, 2].item()))
    assert half == pytest.approx(30.0, abs=0.05)


def test_near_and_far_planes_land_on_minus_one_and_one():
    camera = one_camera()
    for depth, expected in ((0.05, -1.0), (100.0, 1.0)):
        point = torch.tensor([3.0 - depth, 0, 0, 1], dtype=torch.float64)
        clip = camera.world_to_clip()[0] @ point
        assert (clip[2] / clip[3]).item() == pytest.approx(expected, abs=1e-6)


def test_look_at_keeps_the_position_and_faces_the_target():
    position, target = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, -1.0, 0.5]])
    matrix = look_at(position, target, torch.tensor([[0.0, 0.0, 1.0]]))
    forward = torch.nn.functional.normalize(target - position, dim=-1)
    torch.testing.assert_close(matrix[:, :3, 3], position)
    torch.testing.assert_close(-matrix[:, :3, 2], forward)


def test_an_orbit_around_a_target_is_the_orbit_around_the_origin_moved():
    target = torch.tensor([[0.3, -0.2, 0.1]])
    values = [torch.tensor([v]) for v in (30.0, 20.0, 3.0, 40.0)]
    moved, plain = orbit_cameras(*values, target=target), orbit_cameras(*values)
    torch.testing.assert_close(moved.position, plain.position + target)
    torch.testing.assert_close(
        moved.camera_to_world[:, :3, :3], plain.camera_to_world[:, :3, :3], **TIGHT
    )


def test_a_turntable_starts_in_front_and_goes_round_evenly():
    cameras = turntable_cameras(8, distance=3.0, fov_y=40.0)
    expected = torch.tensor([0.0, 45, 90, 135, -180, -135, -90, -45])
    torch.testing.assert_close(cameras.azimuth, expected)
    torch.testing.assert_close(cameras.position.norm(dim=-1), torch.full((8,), 3.0))


def test_indexing_keeps_every_field_of_the_chosen_views():
    cameras = turntable_cameras(6, distance=3.0, fov_y=40.0)
    part = cameras[2:4]
    assert len(part) == 2
    torch.testing.assert_close(part.azimuth, cameras.azimuth[2:4])
    torch.testing.assert_close(part.camera_to_world, cameras.camera_to_world[2:4])
    chosen = cameras[torch.tensor([5, 0])]
    torch.testing.assert_close(chosen.azimuth, cameras.azimuth[[5, 0]])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(0, 2**31))
def test_sampled_views_stay_in_their_ranges_with_one_in_every_azimuth_sector(num_views, seed):
    ranges = CameraRanges()
    cameras = sample_cameras(ranges, num_views, torch.Generator().manual_seed(seed))
    for name in ("elevation", "distance", "fov_y"):
        values, (low, high) = getattr(cameras, name), getattr(ranges, name)
        assert (values >= low - 1e-4).all() and (values <= high + 1e-4).all(), name
    sectors = ((cameras.azimuth + 180) / 360 * num_views).floor().clamp(max=num_views - 1)
    assert sorted(sectors.int().tolist()) == list(range(num_views))


def test_the_same_generator_state_draws_the_same_cameras():
    draws = [
        sample_cameras(CameraRanges(target_jitter=0.1), 4, torch.Generator().manual_seed(3))
        for _ in range(2)
    ]
    assert torch.equal(draws[0].camera_to_world, draws[1].camera_to_world)


def test_target_jitter_moves_what_is_looked_at():
    ranges = CameraRanges(target_jitter=0.2)
    cameras = sample_cameras(ranges, 64, torch.Generator().manual_seed(0))
    centre = -(cameras.camera_to_world[:, :3, :3].mT @ cameras.position[..., None])[..., 0]
    off_axis = centre[:, :2].norm(dim=-1).mean()
    assert 0.1 < off_axis < 0.5


@pytest.mark.parametrize(
    "bad",
    [
        {"azimuth": (10.0, -10.0)},
        {"elevation": (-90.0, 0.0)},
        {"elevation": (0.0, 90.0)},
        {"distance": (0.0, 1.0)},
        {"fov_y": (0.0, 40.0)},
        {"fov_y": (40.0, 180.0)},
        {"distance": (1.0, math.inf)},
        {"distance": (math.nan, 2.0)},
    ],
)
def test_impossible_ranges_are_refused(bad):
    with pytest.raises(ValueError):
        CameraRanges(**bad)


def test_fixed_ranges_hold_one_view_shape():
    cameras = sample_cameras(CameraRanges.at(2.0, 50.0, 10.0), 3, torch.Generator().manual_seed(1))
    torch.testing.assert_close(cameras.elevation, torch.full((3,), 10.0), **TIGHT)
    torch.testing.assert_close(cameras.distance, torch.full((3,), 2.0))
    torch.testing.assert_close(cameras.fov_y, torch.full((3,), 50.0))


@pytest.mark.parametrize("together", [2, 4])
def test_cameras_drawn_together_differ_in_azimuth_alone_by_even_shares_of_the_range(together):
    ranges = CameraRanges(target_jitter=0.1)
    cameras = sample_cameras(ranges, 3 * together, torch.Generator().manual_seed(0), together)
    apart = torch.full((together - 1,), 360.0 / together)
    for first in range(0, 3 * together, together):
        group = cameras[first : first + together]
        for values in (group.elevation, group.distance, group.fov_y):
            assert torch.equal(values, values[:1].expand(together))
        torch.testing.assert_close(group.azimuth.diff() % 360, apart, rtol=0, atol=1e-3)
    starts = cameras.azimuth[::together] % (360.0 / together)
    sectors = (starts // (120.0 / together)).long()
    assert sectors.sort().values.tolist() == [0, 1, 2]
    asked = replace(ranges, together=together)
    again = sample_cameras(asked, 3 * together, torch.Generator().manual_seed(0))
    assert torch.equal(again.camera_to_world, cameras.camera_to_world)


def test_views_that_are_no_whole_groups_are_refused():
    with pytest.raises(ValueError, match="no groups of 4"):
        sample_cameras(CameraRanges(), 6, torch.Generator(), 4)
