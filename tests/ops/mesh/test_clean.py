import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from soft_shapes import SoftShape, ball, octant_color, torus, union

from dreamlab.core.mesh import Mesh
from dreamlab.ops.mesh.clean import (
    boundary_edges,
    drop_components,
    face_adjacency,
    fill_holes,
    is_watertight,
    label_components,
    remove_degenerate,
    smooth,
    vertex_normals,
)


def sphere(subdivisions: int = 3, radius: float = 1.0, center=(0.0, 0.0, 0.0)) -> Mesh:
    model = trimesh.creation.icosphere(subdivisions, radius)
    vertices = np.asarray(model.vertices, np.float32) + np.float32(center)
    return Mesh(vertices, np.asarray(model.faces, np.int64))


def join(*meshes: Mesh) -> Mesh:
    offsets = np.cumsum([0, *(len(m.vertices) for m in meshes[:-1])])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + n for m, n in zip(meshes, offsets, strict=True)]),
    )


def turned_inside_out(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())


def volume(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.triangles.astype(np.float64), 1, 0)
    return float(np.einsum("ni,ni->", a, np.cross(b, c)) / 6)


def test_floaters_are_dropped_and_parts_are_kept():
    floaters = [sphere(1, 0.03, (2, 2, z)) for z in (0.0, 0.5, 1.0)]
    mesh = join(sphere(), sphere(2, 0.3, (3, 0, 0)), *floaters)
    kept, num_kept, num_dropped = drop_components(mesh, 0.01)
    assert (num_kept, num_dropped) == (2, 3)
    assert len(kept.faces) == len(sphere().faces) + len(sphere(2).faces)
    assert len(kept.vertices) == len(sphere().vertices) + len(sphere(2).vertices)


def test_floaters_of_an_extracted_field_are_dropped():
    two_blobs = union(ball(0.3, (0.4, 0, 0)), ball(0.25, (-0.4, 0, 0)))
    dust = union(
        ball(0.03, (0, 0.8, 0.8)), ball(0.03, (0, -0.8, 0.8)), ball(0.02, (0.8, 0.8, -0.8))
    )
    shape = SoftShape(union(two_blobs, dust), octant_color)
    kept, num_kept, num_dropped = drop_components(shape.surface(200.0, 96), 0.01)
    assert (num_kept, num_dropped) == (2, 3)
    assert np.abs(kept.vertices[:, 1:]).max() < 0.35


def test_cavities_that_nobody_sees_are_dropped():
    hollow = join(sphere(), turned_inside_out(sphere(3, 0.8)))
    kept, num_kept, num_dropped = drop_components(hollow, 0.01)
    assert (num_kept, num_dropped) == (1, 1)
    assert volume(kept) == pytest.approx(volume(sphere()))


def test_the_largest_component_survives_any_share():
    kept, num_kept, _ = drop_components(join(sphere(), sphere(2, 0.9, (3, 0, 0))), 0.99)
    assert num_kept == 1 and len(kept.faces) == len(sphere().faces)


def test_holes_are_closed_with_the_right_orientation():
    mesh = sphere()
    centers = mesh.triangles.mean(axis=1)
    open_mesh = Mesh(mesh.vertices, mesh.faces[(centers[:, 2] < 0.9) & (centers[:, 0] < 0.95)])
    assert not is_watertight(open_mesh)
    filled, count = fill_holes(open_mesh, 64)
    assert count == 2 and is_watertight(filled)
    assert volume(filled) == pytest.approx(volume(mesh), rel=0.05)


def test_a_missing_triangle_is_put_back():
    mesh = sphere(1)
    filled, count = fill_holes(Mesh(mesh.vertices, mesh.faces[1:]), 64)
    assert count == 1 and len(filled.vertices) == len(mesh.vertices)
    assert volume(filled) == pytest.approx(volume(mesh))


def test_holes_larger_than_asked_for_stay_open():
    mesh = sphere()
    bowl = Mesh(mesh.vertices, mesh.faces[mesh.triangles[:, :, 2].max(axis=1) < 0])
    same, count = fill_holes(bowl, 8)
    assert count == 0 and np.array_equal(same.faces, bowl.faces)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), num_collapsed=st.integers(1, 30))
def test_collapsed_edges_leave_a_closed_mesh_without_degenerate_triangles(seed, num_collapsed):
    mesh = sphere()
    rng = np.random.default_rng(seed)
    vertices = mesh.vertices.copy()
    for a, b, _ in mesh.faces[rng.choice(len(mesh.faces), num_collapsed, replace=False)]:
        vertices[a] = vertices[b]
    clean = remove_degenerate(Mesh(vertices, mesh.faces))
    assert is_watertight(clean)
    assert clean.face_areas.min() > 1e-9 * 4
    assert len(np.unique(clean.faces)) == len(clean.vertices)


def test_flat_triangles_of_positive_edges_are_collapsed_and_the_mesh_stays_closed():
    mesh = sphere()
    vertices = mesh.vertices.copy()
    a, b, c = mesh.faces[100]
    vertices[c] = (vertices[a] + vertices[b]) / 2  # a cap: three different points on a line
    flat = Mesh(vertices, mesh.faces)
    assert flat.face_areas.min() < 1e-9
    clean = remove_degenerate(flat)
    assert clean.face_areas.min() > 1e-9 and is_watertight(clean)


def test_repeated_triangles_and_flaps_go():
    mesh = sphere(1)
    flap = np.array([[0, 1, 2], [2, 1, 0]])
    spoiled = Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:5], flap]))
    clean = remove_degenerate(spoiled)
    assert len(clean.faces) == len(mesh.faces) and is_watertight(clean)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_of_three_triangles_on_the_same_corners_one_of_the_right_side_stays(first):
    """Two show outwards, one inwards; which one is listed first does not matter."""
    mesh = sphere(1)
    a, b, c = mesh.faces[0]
    three = np.roll([[a, b, c], [b, c, a], [a, c, b]], first, axis=0)
    clean = remove_degenerate(Mesh(mesh.vertices, np.concatenate([three, mesh.faces[1:]])))
    assert is_watertight(clean) and len(clean.faces) == len(mesh.faces)
    assert volume(clean) == pytest.approx(volume(mesh))


def test_a_clean_mesh_is_unchanged_up_to_order():
    mesh = SoftShape(torus(), octant_color).surface(200.0, 40)
    clean = remove_degenerate(remove_degenerate(mesh))
    again = remove_degenerate(clean)
    assert np.array_equal(again.vertices, clean.vertices)
    assert volume(clean) == pytest.approx(volume(mesh), rel=1e-4)
    assert is_watertight(clean)


def test_smoothing_removes_noise_and_keeps_the_volume():
    mesh = sphere(4)
    rng = np.random.default_rng(0)
    radius = 1 + 0.02 * rng.normal(size=(len(mesh.vertices), 1))
    noisy = Mesh((mesh.vertices * radius).astype(np.float32), mesh.faces)
    fair = smooth(noisy, 10)
    assert np.linalg.norm(fair.vertices, axis=1).std() < 0.4 * 0.02
    assert volume(fair) == pytest.approx(volume(mesh), rel=0.01)


def test_components_are_counted_through_shared_edges_only():
    faces = np.array([[0, 1, 2], [2, 1, 3], [3, 4, 5]])
    labels = label_components(3, face_adjacency(faces))
    assert labels[0] == labels[1] != labels[2]
    assert len(boundary_edges(faces)) == 7


def test_vertex_normals_of_a_sphere_point_outwards():
    mesh = sphere(4)
    normals = vertex_normals(mesh)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)
    assert (np.einsum("ni,ni->n", normals, mesh.vertices) > 0.999).all()


def test_normals_are_finite_where_triangles_cancel_out():
    sheet = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    normals = vertex_normals(Mesh(sheet, np.array([[0, 1, 2], [0, 2, 1]])))
    assert np.isfinite(normals).all()
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)


def test_extraction_of_a_torus_is_watertight_before_and_after_cleaning():
    mesh = SoftShape(torus(), octant_color).surface(200.0, 48)
    assert is_watertight(remove_degenerate(mesh))
    assert torch.isfinite(torch.tensor(mesh.vertices)).all()
