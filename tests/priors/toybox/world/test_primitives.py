"""Every shape is a signed distance bound, inside the box it claims, and rays hit it where it is."""

import numpy as np
import pytest
import torch

from dreamlab.ops.warp_setup import launch_split
from dreamlab.priors.toybox.world import kernels
from dreamlab.priors.toybox.world.primitives import SHAPES, hull_points
from dreamlab.priors.toybox.world.scenes import PackedScenes
from dreamlab.priors.toybox.world.tracer import device_parts

RATIO = {"rounded box": 0.4, "cone": 0.5, "cup": 0.8}
SIZES = {
    "torus": (0.9, 0.9, 0.25),
    "hexagon": (0.8, 0.8 * 0.75**0.5, 0.5),
    "capsule": (0.3, 0.5, 0.9),
}


def size_of(shape: str) -> tuple[float, float, float]:
    return SIZES.get(shape, (0.6, 0.9, 0.5))


def distances(shape: str, points: np.ndarray) -> np.ndarray:
    one = np.ones((1, 3), np.float32)
    packed = PackedScenes(
        start=np.array([0, 1]),
        shape=np.array([SHAPES.index(shape)]),
        center=0 * one,
        to_local=np.eye(3, dtype=np.float32)[None],
        size=np.array([size_of(shape)], np.float32),
        ratio=np.array([RATIO.get(shape, 0.0)], np.float32),
        reach=np.array([2.0], np.float32),
        color=one,
        partner=one,
        pattern=np.array([0]),
        anchor=0 * one,
    )
    result = torch.zeros(len(points))
    cloud = torch.from_numpy(points.astype(np.float32))
    inputs = [device_parts(packed), cloud, result]
    launch_split(kernels.scene_distances, len(points), inputs, "cpu")
    return result.numpy()


def is_inside(shape: str, points: np.ndarray) -> np.ndarray:
    """Membership written from the definitions, independently of the distances."""
    size = np.array(size_of(shape))
    u = points / size
    radial, height = np.hypot(u[:, 0], u[:, 1]), (u[:, 2] + 1) / 2
    box = (np.abs(u) < 1).all(-1)
    if shape == "ellipsoid":
        return np.linalg.norm(u, axis=-1) < 1
    if shape == "box":
        return box
    if shape == "rounded box":
        radius = RATIO[shape] * size.min()
        nearest = np.clip(points, radius - size, size - radius)
        return np.linalg.norm(points - nearest, axis=-1) < radius
    if shape == "cylinder":
        return (radial < 1) & (np.abs(u[:, 2]) < 1)
    if shape == "capsule":
        middle = size[2] - min(size[:2])
        rest = points[:, 2] - np.clip(points[:, 2], -middle, middle)
        return radial**2 + (rest / min(size[:2])) ** 2 < 1
    if shape == "cone":
        return (radial < 1 - height * (1 - RATIO[shape])) & (np.abs(u[:, 2]) < 1)
    if shape == "torus":
        ring = np.hypot(points[:, 0], points[:, 1]) - (size[0] - size[2])
        return np.hypot(ring, points[:, 2]) < size[2]
    if shape == "pyramid":
        return (np.maximum(abs(u[:, 0]), abs(u[:, 1])) < 1 - height) & box
    if shape == "wedge":
        return (u[:, 0] + u[:, 2] < 0) & box
    if shape == "prism":
        return (abs(u[:, 1]) < 1 - height) & box
    if shape == "dome":
        return (radial**2 + height**2 < 1) & (height > 0)
    if shape == "hexagon":
        x, y = abs(points[:, 0]) / size[0], abs(points[:, 1]) / size[0]
        return box & (x + y / np.sqrt(3) < 1)
    hollow = (radial < RATIO["cup"]) & (points[:, 2] > (1 - RATIO["cup"]) * size[0] - size[2])
    return (radial < 1) & box & ~hollow


@pytest.fixture(scope="module")
def cloud() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1.2, 1.2, (20000, 3)).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_sign_agrees_with_the_definition_of_the_shape(shape: str, cloud: np.ndarray) -> None:
    distance = distances(shape, cloud)
    clear = np.abs(distance) > 1e-4
    inside = is_inside(shape, cloud)
    assert inside.any()
    assert ((distance < 0) == inside)[clear].all()


@pytest.mark.parametrize("shape", SHAPES)
def test_lipschitz_constant_is_at_most_one(shape: str, cloud: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    near = cloud + rng.normal(size=cloud.shape).astype(np.float32) * 0.02
    far = rng.permutation(cloud)
    for other in (near, far):
        change = np.abs(distances(shape, cloud) - distances(shape, other))
        assert (change <= np.linalg.norm(cloud - other, axis=-1) * (1 + 1e-4) + 1e-6).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_hull_points_bound_the_shape_tightly(shape: str, cloud: np.ndarray) -> None:
    inside = cloud[is_inside(shape, cloud)]
    hull = hull_points(shape, size_of(shape), RATIO.get(shape, 0.0))
    direction = np.random.default_rng(2).normal(size=(3, 200))
    direction /= np.linalg.norm(direction, axis=0)
    support, reached = (hull @ direction).max(0), (inside @ direction).max(0)
    assert (reached <= support + 0.012).all()
    assert (support - reached).max() < 0.2  # the cloud's spacing keeps it off the corners
    np.testing.assert_allclose(np.abs(hull).max(0), size_of(shape), rtol=0.02)
    assert distances(shape, hull).max() < 1e-5
