import numpy as np
import pytest
import torch
import trimesh
from closeness import KERNEL_DEVICES

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.ops.triangles.paint import UNPAINTED, sample_texture
from dreamlab.ops.triangles.raycast import (
    MeshCaster,
    render_mesh,
    silhouette,
)


def brute_force(vertices, faces, origins, directions):
    """Möller-Trumbore, every ray against every triangle, float64."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64)[None] for k in range(3))
    o, d = origins[:, None].astype(np.float64), directions[:, None].astype(np.float64)
    p = np.cross(d, c - a)
    determinant = (p * (b - a)).sum(-1)
    u = (p * (o - a)).sum(-1) / determinant
    q = np.cross(o - a, b - a)
    v = (q * d).sum(-1) / determinant
    t = (q * (c - a)).sum(-1) / determinant
    t = np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0), t, np.inf)
    face = t.argmin(axis=1)
    rays = np.arange(len(o))
    u, v, t = u[rays, face], v[rays, face], t[rays, face]
    return np.where(np.isinf(t), -1, face), np.stack([1 - u - v, u, v], axis=1), t


def sphere(subdivisions: int = 4, radius: float = 0.7) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions, radius)
    vertices = np.asarray(ball.vertices, np.float32)
    return Mesh(vertices, np.asarray(ball.faces, np.int64), normals=vertices / radius)


def cameras(num_views: int = 4):
    return turntable_cameras(num_views, elevation=20.0, distance=3.0, fov_y=40.0)


def to_camera(views):
    return torch.nn.functional.normalize(views.position, dim=-1)


@pytest.mark.parametrize("device", KERNEL_DEVICES)
@pytest.mark.parametrize("seed", range(5))
def test_hits_equal_brute_force_over_random_triangles(seed, device):
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-1, 1, (90, 3)).astype(np.float32)
    faces = np.arange(90).reshape(30, 3)
    origins = rng.uniform(-2, 2, (2000, 3)).astype(np.float32)
    directions = rng.normal(size=(2000, 3)).astype(np.float32)
    caster = MeshCaster(vertices, faces, device)
    hits = caster.cast(torch.tensor(origins).to(device), torch.tensor(directions).to(device))
    face, barycentric, distance = brute_force(vertices, faces, origins, directions)
    clear = (face < 0) | (barycentric.min(axis=1) > 1e-4)
    assert clear.mean() > 0.99
    assert 0.05 < (face >= 0).mean() < 0.95
    assert np.array_equal(hits.face_index.cpu().numpy()[clear], face[clear])
    met = clear & (face >= 0)
    np.testing.assert_allclose(hits.barycentric.cpu().numpy()[met], barycentric[met], atol=2e-4)
    np.testing.assert_allclose(hits.distance.cpu().numpy()[met], distance[met], rtol=2e-4)


def test_a_miss_has_face_minus_one_and_zeros():
    mesh = sphere(1)
    hits = MeshCaster(mesh.vertices, mesh.faces).cast(
        torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    )
    assert hits.face_index.tolist() == [-1]
    assert not hits.barycentric.any() and not hits.distance.any()


def test_threads_do_not_change_the_hits():
    mesh = sphere(2)
    origins, directions = (x.reshape(-1, 3) for x in cameras().rays(40, 40))
    caster = MeshCaster(mesh.vertices, mesh.faces)
    one = caster.cast(origins, directions)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = caster.cast(origins, directions)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one.face_index, two.face_index)
    assert torch.equal(one.distance, two.distance)


def test_the_silhouette_of_a_sphere_is_its_analytic_disc():
    mask = silhouette(sphere(5), cameras(), 64, 64)[..., 0]
    origins, directions = cameras().rays(64, 64)
    closest = torch.linalg.cross(origins, directions).norm(dim=-1)
    clear = (closest - 0.7).abs() > 0.002
    assert torch.equal(mask[clear], (closest < 0.7)[clear])


def test_depth_and_normals_of_a_sphere_are_analytic():
    views = cameras()
    render = render_mesh(sphere(5), views, 48, 48, supersample=1)
    origins, directions = views.rays(48, 48)
    along = -(origins * directions).sum(dim=-1)
    distance = along - (0.49 - (origins.square().sum(dim=-1) - along.square())).clamp(min=0).sqrt()
    points = origins + distance[..., None] * directions
    inner = torch.linalg.cross(origins, directions).norm(dim=-1) < 0.65
    assert torch.allclose(render.depth[..., 0][inner], distance[inner], atol=2e-3)
    assert torch.allclose(render.normal[inner], points[inner] / 0.7, atol=5e-3)
    assert (render.alpha[inner] == 1).all()


def test_lambert_light_follows_the_convention():
    views, mesh = cameras(), sphere(4)
    light = to_camera(views)
    lit = render_mesh(mesh, views, 32, 32, supersample=1, light_direction=light, ambient=0.25)
    inside = lit.alpha[..., 0] > 0
    lambert = torch.einsum("bhwc,bc->bhw", lit.normal, light).clamp(min=0)
    expected = UNPAINTED * (0.25 + 0.75 * lambert)
    assert torch.allclose(lit.rgb[inside], expected[inside][:, None].expand(-1, 3), atol=1e-5)


def test_without_a_light_the_albedo_shows():
    mesh = sphere(2)
    painted = Mesh(mesh.vertices, mesh.faces, colors=np.tile([0.1, 0.5, 0.8], (162, 1)))
    render = render_mesh(painted, cameras(), 32, 32, supersample=1)
    inside = render.alpha[..., 0] > 0
    assert torch.allclose(render.rgb[inside], torch.tensor([0.1, 0.5, 0.8]), atol=1e-5)
    assert (render.rgb[~inside] == 1).all()


def test_supersampled_pixels_mix_with_the_background_by_coverage():
    render = render_mesh(sphere(3), cameras(), 16, 16, supersample=8, background=(0.0, 0.0, 1.0))
    partial = (render.alpha > 0) & (render.alpha < 1)
    assert partial.any()
    expected = render.alpha * UNPAINTED + (1 - render.alpha) * torch.tensor([0.0, 0.0, 1.0])
    assert torch.allclose(render.rgb, expected, atol=1e-5)


def quad(texture: np.ndarray) -> Mesh:
    """The square |y|, |z| <= 1 at x = 0 that faces +x; the texture stands upright on it."""
    vertices = np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]], np.float32)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    return Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]), uv=uv, texture=texture)


def front_camera():
    return turntable_cameras(1, elevation=0.0, distance=10.0, fov_y=2 * np.degrees(np.arctan(0.1)))


def test_the_texture_appears_upright_seen_from_the_front():
    texture = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    render = render_mesh(quad(texture), front_camera(), 8, 8, supersample=1)
    assert torch.allclose(render.rgb[0], torch.tensor(texture) / 255, atol=2e-3)


def test_back_faces_are_seen_with_normals_towards_the_viewer():
    behind = turntable_cameras(2, elevation=0.0, distance=4.0, fov_y=20.0)[1:]
    render = render_mesh(quad(np.full((4, 4, 3), 128, np.uint8)), behind, 4, 4, supersample=1)
    assert (render.alpha == 1).all()
    assert torch.allclose(render.normal, torch.tensor([-1.0, 0.0, 0.0]).expand(1, 4, 4, 3))


def test_texture_sampling_is_bilinear_and_clamped():
    texture = torch.tensor([[[0, 0, 0], [100, 0, 0]], [[0, 200, 0], [100, 200, 0]]]).byte()
    uv = torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.0, 0.0], [1.0, 1.0]])
    expected = torch.tensor([[0, 0, 0], [50, 100, 0], [0, 200, 0], [100, 0, 0]]) / 255
    assert torch.allclose(sample_texture(texture, uv), expected, atol=1e-6)


def test_a_mesh_without_triangles_is_refused():
    with pytest.raises(InputError, match="without triangles"):
        MeshCaster(np.zeros((3, 3), np.float32), np.zeros((0, 3), np.int64))


def test_supersampling_below_one_is_refused():
    with pytest.raises(InputError, match="supersample"):
        render_mesh(sphere(1), cameras(), 8, 8, supersample=0)
