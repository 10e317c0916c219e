"""True meshes are closed, lie in the unit ball, and wear the colours of the prompt."""

import numpy as np
import pytest
import trimesh

from dreamlab.core.mesh import Mesh
from dreamlab.priors.toybox.world.captions import parse_prompt
from dreamlab.priors.toybox.world.objects.catalogue import OBJECTS
from dreamlab.priors.toybox.world.palette import COLORS
from dreamlab.priors.toybox.world.scenes import Item, Scene, sample_scene
from dreamlab.priors.toybox.world.truth import true_mesh


def solid_of(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def share(mesh: Mesh, color: str) -> float:
    assert mesh.colors is not None
    return float((np.abs(mesh.colors - COLORS[color]).max(-1) < 1e-5).mean())


def test_a_sphere_has_the_volume_radius_and_normals_of_a_sphere() -> None:
    mesh = true_mesh(parse_prompt("a red sphere"))
    radius = np.linalg.norm(mesh.vertices, axis=-1)
    np.testing.assert_allclose(radius, 0.78, atol=2e-3)
    assert solid_of(mesh).volume == pytest.approx(4 / 3 * np.pi * 0.78**3, rel=5e-3)
    assert mesh.normals is not None
    np.testing.assert_allclose(mesh.normals, mesh.vertices / radius[:, None], atol=2e-3)
    assert share(mesh, "red") == 1


@pytest.mark.parametrize("name", list(OBJECTS))
def test_every_object_is_one_closed_body_in_the_unit_ball(name: str) -> None:
    mesh = true_mesh(Scene((Item(name, "red"),)), resolution=72)
    body = solid_of(mesh)
    assert body.is_watertight
    assert body.volume > 0
    assert body.body_count == 1
    assert np.linalg.norm(mesh.vertices, axis=-1).max() < 0.85


@pytest.mark.parametrize("seed", range(8))
def test_any_scene_is_closed_and_in_the_unit_ball(seed: int) -> None:
    mesh = true_mesh(sample_scene(np.random.default_rng(seed)), resolution=64)
    assert solid_of(mesh).is_watertight
    assert np.linalg.norm(mesh.vertices, axis=-1).max() < 0.88
    assert mesh.colors is not None
    assert ((mesh.colors >= 0) & (mesh.colors <= 1)).all()


def test_normals_point_out_of_the_faces() -> None:
    mesh = true_mesh(parse_prompt("a green rounded cube"), resolution=64)
    a, b, c = np.moveaxis(mesh.triangles, 1, 0)
    face = np.cross(b - a, c - a)
    assert mesh.normals is not None
    agree = (face * mesh.normals[mesh.faces].mean(1)).sum(-1) > 0
    assert agree[np.linalg.norm(face, axis=-1) > 1e-8].mean() > 0.999


def test_a_mushroom_has_a_red_cap_on_a_pale_stem() -> None:
    mesh = true_mesh(parse_prompt("a red mushroom"))
    assert mesh.colors is not None
    is_red = np.abs(mesh.colors - COLORS["red"]).max(-1) < 1e-5
    assert 0.4 < is_red.mean() < 0.95
    assert mesh.vertices[is_red, 2].mean() > mesh.vertices[~is_red, 2].mean() + 0.4


def test_a_pattern_shows_both_of_its_colors() -> None:
    mesh = true_mesh(parse_prompt("a checkered blue and yellow cube"), resolution=96)
    assert 0.35 < share(mesh, "blue") < 0.65
    assert share(mesh, "blue") + share(mesh, "yellow") == pytest.approx(1)


def test_relations_put_two_colored_bodies_in_their_places() -> None:
    mesh = true_mesh(parse_prompt("a blue sphere on top of a yellow cube"), resolution=96)
    assert mesh.colors is not None
    assert solid_of(mesh).body_count == 1  # the sphere rests on the cube
    blue = np.abs(mesh.colors - COLORS["blue"]).max(-1) < 1e-5
    assert mesh.vertices[blue, 2].min() > mesh.vertices[~blue, 2].max() - 0.03
    beside = true_mesh(parse_prompt("a blue sphere next to a yellow cube"), resolution=64)
    assert solid_of(beside).body_count == 2


def test_hidden_hollows_are_filled() -> None:
    # the coffee closes nothing off: only the outside of the mug and its inside above the coffee
    mesh = true_mesh(parse_prompt("a white mug"), resolution=96)
    bodies = solid_of(mesh).split(only_watertight=False)
    assert all(body.volume > 0 for body in bodies)
