"""Claims about tangents, and about the normal maps that are written in them."""

import numpy as np
import pytest
import torch
import trimesh

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import Material
from dreamlab.ops.mesh.bake import bake, bake_material
from dreamlab.ops.mesh.tangents import vertex_tangents
from dreamlab.ops.mesh.unwrap import unwrap
from dreamlab.ops.triangles.paint import sample_texture

SIZE = 256


def quad(uv) -> Mesh:
    """A square that faces +x, seen from there: y to the right, z up."""
    vertices = np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    return Mesh(vertices, faces, normals=np.tile([1.0, 0.0, 0.0], (4, 1)), uv=np.array(uv))


UPRIGHT = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]


@pytest.fixture(scope="module")
def ball() -> Mesh:
    model = trimesh.creation.icosphere(subdivisions=3, radius=0.7)
    vertices = model.vertices.astype(np.float32)
    mesh = Mesh(vertices, model.faces.astype(np.int64), normals=vertices.astype(np.float64) / 0.7)
    return unwrap(mesh, method="box", texture_size=SIZE, time_limit=60.0).mesh


def test_a_tangent_points_where_u_rises():
    tangents = vertex_tangents(quad(UPRIGHT))
    np.testing.assert_allclose(tangents, np.tile([0, 1, 0, 1], (4, 1)), atol=1e-6)
    turned = vertex_tangents(quad(np.roll(UPRIGHT, 1, axis=0)))  # u rises upwards or downwards
    np.testing.assert_allclose(np.abs(turned[:, 2]), 1, atol=1e-6)
    assert (turned[:, 3] == 1).all()


def test_a_mirrored_texture_has_the_other_side():
    mirrored = [[1 - u, v] for u, v in UPRIGHT]
    np.testing.assert_allclose(
        vertex_tangents(quad(mirrored)), np.tile([0, -1, 0, -1], (4, 1)), atol=1e-6
    )


def test_tangents_are_unit_and_across_the_normal_even_where_uv_are_all_the_same(ball):
    for mesh in (ball, quad([[0.5, 0.5]] * 4)):
        tangents = vertex_tangents(mesh)
        assert mesh.normals is not None
        np.testing.assert_allclose(np.linalg.norm(tangents[:, :3], axis=1), 1, atol=1e-5)
        across = np.einsum("nk,nk->n", tangents[:, :3], mesh.normals)
        np.testing.assert_allclose(across, 0, atol=1e-5)
        assert np.isin(tangents[:, 3], [-1, 1]).all()


def test_tangents_turn_with_the_mesh(ball):
    turn = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    moved = Mesh(ball.vertices @ turn.T, ball.faces, normals=ball.normals @ turn.T, uv=ball.uv)
    expected = vertex_tangents(ball)[:, :3] @ turn.T
    np.testing.assert_allclose(vertex_tangents(moved)[:, :3], expected, atol=1e-4)


def test_a_mesh_without_uv_is_refused(ball):
    with pytest.raises(InputError, match="need UV"):
        vertex_tangents(Mesh(ball.vertices, ball.faces, normals=ball.normals))


def wavy(points: torch.Tensor) -> Material:
    bump = 0.6 * torch.sin(4 * points.flip(1))
    metallic, roughness = points[:, :1].clamp(0, 0.9), 0.5 + 0.4 * points[:, 2:]
    return Material(points.abs(), metallic, roughness, bump)


def seen_on(picture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    return sample_texture(torch.tensor(picture), torch.tensor(uv)).numpy()


def test_a_reader_of_the_normal_map_finds_the_bumpy_normals_again(ball):
    """As glTF has it: b = w n x t at each point, and n' = x t + y b + z n."""
    _, texels = bake(ball, lambda points: points.abs(), SIZE)
    baked = bake_material(ball, texels, wavy, SIZE)
    assert baked.normal_map is not None and baked.metallic_roughness is not None
    weights = np.random.default_rng(0).dirichlet([2, 2, 2], len(ball.faces))

    def at(values):
        return np.einsum("fk,fkc->fc", weights, values[ball.faces])

    points, uv, normals = (at(x) for x in (ball.vertices, ball.uv, ball.normals))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    tangents = at(vertex_tangents(ball))
    t = tangents[:, :3] - (tangents[:, :3] * normals).sum(1, keepdims=True) * normals
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    b = np.sign(tangents[:, 3:]) * np.cross(normals, t)
    x, y, z = np.moveaxis(seen_on(baked.normal_map, uv) * 2 - 1, 1, 0)[..., None]
    found = x * t + y * b + z * normals
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    material = wavy(torch.tensor(points))
    expected = material.bend(torch.tensor(normals)).numpy()
    angle = np.degrees(np.arccos(np.clip((found * expected).sum(1), -1, 1)))
    assert np.median(angle) < 1.0 and np.quantile(angle, 0.99) < 5.0
    plain = np.degrees(np.arccos(np.clip((normals * expected).sum(1), -1, 1)))
    assert np.median(plain) > 10  # or flat normals would do
    surface = seen_on(baked.metallic_roughness, uv)
    assert np.abs(surface[:, 1:2] - material.roughness.numpy()).max() < 0.03
    assert np.abs(surface[:, 2:3] - material.metallic.numpy()).max() < 0.03


def test_without_bumps_there_is_no_normal_map(ball):
    _, texels = bake(ball, lambda points: points.abs(), SIZE)

    def smooth(points):
        made = wavy(points)
        return Material(made.albedo, made.metallic, made.roughness)

    baked = bake_material(ball, texels, smooth, SIZE)
    assert baked.normal_map is None and baked.metallic_roughness is not None
