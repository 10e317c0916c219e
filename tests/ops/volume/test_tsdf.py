"""Fusion of depth: shapes known by their distance come back from pictures of it."""

import pytest
import torch
from soft_shapes import Distance, ball, statue, torus, union

from dreamlab.core.cameras import Cameras, orbit_cameras
from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.ops.mesh.clean import is_watertight, label_components, remove_degenerate
from dreamlab.ops.triangles.distance import sample_surface
from dreamlab.ops.triangles.isosurface import extract
from dreamlab.ops.triangles.raycast import MeshCaster
from dreamlab.ops.volume.threshold import SilhouetteReference
from dreamlab.ops.volume.tsdf import fuse_depth, fused_surface

RESOLUTION = 40
SPACING = 2 / (RESOLUTION - 1)


def all_around(per_ring: int = 8) -> Cameras:
    """Three rings of views, and one from above and below."""
    turn = torch.arange(per_ring) * (360.0 / per_ring)
    azimuth = torch.cat([turn, turn + 20, turn, torch.zeros(2)])
    rings = [torch.full((per_ring,), tilt) for tilt in (-45.0, 0.0, 45.0)]
    elevation = torch.cat([*rings, torch.tensor([-89.0, 89.0])])
    one = torch.ones_like(azimuth)
    return orbit_cameras(azimuth, elevation, 3 * one, 42 * one)


def trace(shape: Distance, cameras: Cameras, size: int = 72) -> torch.Tensor:
    """Depth of a mesh much finer than what is fused, 0 where nothing is met."""
    axis = torch.linspace(-1, 1, 96)
    distance = shape(torch.cartesian_prod(axis, axis, axis)).reshape(96, 96, 96)
    mesh = extract(-distance, 0.0)
    origins, directions = (x.reshape(-1, 3) for x in cameras.rays(size, size))
    hits = MeshCaster(mesh.vertices, mesh.faces).cast(origins, directions)
    return hits.distance.reshape(len(cameras), size, size, 1)


def reference_of(shape: Distance, cameras: Cameras) -> SilhouetteReference:
    depth = trace(shape, cameras)
    return SilhouetteReference(cameras, (depth > 0).float(), depth)


def genus(mesh: Mesh) -> int:
    edges = len(mesh.faces) * 3 // 2
    return 1 - (len(mesh.vertices) - edges + len(mesh.faces)) // 2


@pytest.mark.parametrize(
    ("shape", "handles"),
    [(ball(0.6), 0), (torus(), 1), (statue(), 0)],
    ids=["ball", "torus", "statue"],
)
def test_a_shape_is_recovered_within_a_voxel_with_its_handles(shape: Distance, handles: int):
    mesh = remove_degenerate(fused_surface(reference_of(shape, all_around()), 1.0, RESOLUTION))
    assert is_watertight(mesh)
    assert genus(mesh) == handles
    error = shape(torch.from_numpy(sample_surface(mesh, 5000, seed=0)).float())
    assert error.abs().max() < SPACING
    assert error.abs().mean() < 0.1 * SPACING


def test_between_two_parts_there_is_nothing():
    """The gap is as wide as the truncation, and each part hides the other from some views."""
    parts = union(ball(0.3, (-0.37, 0.0, 0.0)), ball(0.3, (0.37, 0.0, 0.0)))
    mesh = remove_degenerate(fused_surface(reference_of(parts, all_around()), 1.0, RESOLUTION))
    pairs = mesh.faces[:, [0, 1, 1, 2]].reshape(-1, 2)
    assert label_components(len(mesh.vertices), pairs).max() + 1 == 2


def test_the_order_of_views_does_not_matter():
    cameras = all_around(3)
    depth = trace(torus(), cameras, 32)
    order = torch.randperm(len(cameras), generator=torch.Generator().manual_seed(0))
    options = {"half_extent": 1.0, "resolution": 24, "truncation": 0.2}
    first = fuse_depth(depth, cameras, **options)
    second = fuse_depth(depth[order], cameras[order], **options)
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


def test_one_view_gives_the_formula():
    """Seen along -x: nodes on the axis of the picture, whose pixels all have one depth."""
    one = torch.ones(1)
    camera = orbit_cameras(0 * one, 0 * one, 3 * one, 60 * one)
    depth = torch.full((1, 9, 9, 1), 2.9)
    truncation = 0.8
    fused = fuse_depth(depth, camera, half_extent=1.0, resolution=5, truncation=truncation)
    x = torch.linspace(-1, 1, 5)
    s = (2.9 - (3 - x)) / truncation  # of the nodes (x, 0, 0)
    expected = torch.where(s > -1, s.clamp(-1, 1), -1.0)
    torch.testing.assert_close(fused[:, 2, 2], expected, atol=1e-5, rtol=0)


def test_a_pinhole_in_one_view_does_not_hollow_the_object_out():
    cameras = all_around()
    depth = trace(ball(), cameras, 32)
    depth[0, 14:18, 14:18] = 0
    fused = fuse_depth(depth, cameras, half_extent=1.0, resolution=21, truncation=0.15)
    axis = torch.linspace(-1, 1, 21)
    radius = torch.cartesian_prod(axis, axis, axis).norm(dim=1).reshape(21, 21, 21)
    assert (fused[radius < 0.4] < 0).all() and (fused[radius > 0.75] > 0).all()


def test_what_is_outside_of_every_picture_is_outside_and_what_is_hidden_inside():
    one = torch.ones(1)
    camera = orbit_cameras(0 * one, 0 * one, 3 * one, 20 * one)
    wall = torch.full((1, 8, 8, 1), 2.8)
    fused = fuse_depth(wall, camera, half_extent=1.0, resolution=9, truncation=0.2)
    assert fused[0, 4, 4] == -1  # far behind the wall
    assert fused[4, 0, 0] == 1  # not in the picture
    assert fused[8, 4, 4] == 1  # in front


def test_the_result_does_not_depend_on_how_nodes_are_cut_up(monkeypatch: pytest.MonkeyPatch):
    cameras = all_around(3)
    depth = trace(ball(), cameras, 32)
    options = {"half_extent": 1.0, "resolution": 20, "truncation": 0.3}
    whole = fuse_depth(depth, cameras, **options)
    monkeypatch.setattr("dreamlab.ops.volume.tsdf.CHUNK", 999)
    torch.testing.assert_close(fuse_depth(depth, cameras, **options), whole)


def test_views_without_depth_or_object_are_refused():
    cameras = all_around(1)
    alpha = torch.zeros(len(cameras), 8, 8, 1)
    with pytest.raises(InputError, match="depth"):
        fused_surface(SilhouetteReference(cameras, alpha), 1.0, 16)
    with pytest.raises(InputError, match="opaque"):
        fused_surface(SilhouetteReference(cameras, alpha, alpha), 1.0, 16)
