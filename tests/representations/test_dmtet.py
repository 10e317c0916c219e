"""The tetrahedral mesh: what it starts as, that it stays closed, and what its losses say."""

import numpy as np
import pytest
import torch
import trimesh

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import Representation, Shape
from dreamlab.core.topology import build_topology
from dreamlab.ops.hashgrid.encode import HashGridConfig
from dreamlab.ops.triangles.distance import distances_to
from dreamlab.representations.dmtet import Config, build

SMALL = HashGridConfig(log2_table_size=10, num_levels=4, base_resolution=4, finest_resolution=32)


def small(**settings):
    generator = torch.Generator().manual_seed(0)
    return build(Config(grid=SMALL, **{"resolution": 10, **settings}), generator)


def test_it_starts_as_a_grey_ellipsoid():
    shape = small(radii=(0.6, 0.4, 0.3))
    assert isinstance(shape, Shape) and isinstance(shape, Representation)
    mesh = shape.triangles()
    inside = (mesh.vertices / torch.tensor([0.6, 0.4, 0.3])).norm(dim=1)
    assert (inside - 1).abs().max() < 0.1
    albedo = shape.color_at(mesh.vertices.detach())
    torch.testing.assert_close(albedo, torch.full_like(albedo, 0.5), atol=0.01, rtol=0)


def test_the_mesh_stays_closed_inside_its_cube_whatever_the_parameters():
    shape = small(half_extent=0.8)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        shape.distance.copy_(torch.randn(shape.distance.shape, generator=draw))
        shape.offset.copy_(5 * torch.randn(shape.offset.shape, generator=draw))
    mesh = shape.triangles()
    assert (build_topology(mesh.tri).opposite >= 0).all()
    assert mesh.vertices.abs().max() <= 0.8 + 0.3 * shape.grid.spacing
    a, b, c = mesh.vertices[mesh.tri].unbind(dim=1)
    assert (torch.linalg.cross(a, b) * c).sum() > 0


def test_gradients_reach_all_groups():
    shape = small()
    mesh = shape.triangles()
    (mesh.vertices.square().sum() + shape.albedo(mesh.vertices)[:, 0].sum()).backward()
    groups = shape.parameter_groups()
    assert set(groups) == {"distance", "offset", "table", "mlp"}
    for name, parameters in groups.items():
        assert all(p.grad is not None and p.grad.any() for p in parameters), name


def test_a_ball_is_regular_and_noise_is_not():
    shape = small(resolution=14)
    ball = {name: value.item() for name, value in shape.regularisers().items()}
    assert ball["eikonal"] < 0.02  # a distance has slope 1
    assert ball["normal_consistency"] < 0.1
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        shape.distance += 0.1 * torch.randn(shape.distance.shape, generator=draw)
    rough = {name: value.item() for name, value in shape.regularisers().items()}
    assert all(rough[name] > 1.5 * ball[name] for name in ("eikonal", "normal_consistency"))
    assert rough["laplacian"] > ball["laplacian"]


@pytest.mark.parametrize("name", ["normal_consistency", "laplacian", "sign_changes", "eikonal"])
def test_each_loss_smooths_a_noisy_ball(name):
    shape = small()
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        shape.distance += 0.06 * torch.randn(shape.distance.shape, generator=draw)
    optimizer = torch.optim.Adam([shape.distance], lr=5e-3)
    first = shape.regularisers()[name].item()
    for _ in range(40):
        loss = shape.regularisers()[name]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert shape.regularisers()[name].item() < 0.85 * first


def test_sign_changes_wear_off_a_speck():
    shape = small()
    before = len(shape.triangles().tri)
    speck = (shape.grid.positions - 0.6).norm(dim=1).argmin()
    with torch.no_grad():
        shape.distance[speck] = -0.02
    assert len(shape.triangles().tri) > before
    optimizer = torch.optim.Adam([shape.distance], lr=5e-3)
    for _ in range(15):
        optimizer.zero_grad()
        shape.regularisers()["sign_changes"].backward()
        optimizer.step()
    assert shape.distance[speck] > 0


def test_sign_changes_is_the_cross_entropy_of_its_formula():
    shape = small()
    surface = shape.surface()
    a, b = (shape.signed_distance()[surface.edges] / shape.grid.spacing).unbind(dim=1)
    inside = torch.sigmoid(-a), torch.sigmoid(-b)

    def entropy(p, is_inside):
        return -torch.where(is_inside, p.log(), (1 - p).log()).mean()

    expected = entropy(inside[0], b < 0) + entropy(inside[1], a < 0)
    torch.testing.assert_close(shape.regularisers()["sign_changes"], expected)


def test_without_a_surface_losses_are_zero_and_nothing_breaks():
    shape = small()
    with torch.no_grad():
        shape.distance.fill_(1.0)
    losses = shape.regularisers()
    assert len(shape.triangles().tri) == 0
    assert all(losses[n].item() == 0 for n in ("normal_consistency", "laplacian", "sign_changes"))


@pytest.mark.parametrize("grid", [None, SMALL], ids=["parameters", "field"])
def test_a_saved_mesh_is_the_same_mesh(grid):
    settings = {"all_levels_at": 1.0, "start_level": 1, "distance_grid": grid}
    shape, other = small(**settings), small(**settings)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in shape.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draw)
    shape.set_progress(0.4)
    other.load_state_dict(shape.state_dict())
    a, b = shape.triangles(), other.triangles()
    assert torch.equal(a.vertices, b.vertices) and torch.equal(a.tri, b.tri)
    assert torch.equal(shape.color_at(a.vertices.detach()), other.color_at(a.vertices.detach()))


@pytest.mark.parametrize(
    "settings",
    [{"resolution": 1}, {"radii": (0.5, 0.5, 1.0)}, {"deformation": 0.5}, {"half_extent": 0.0}],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Config(grid=SMALL, **settings)


def test_a_field_of_distances_begins_as_the_same_ellipsoid():
    plain, field = (small(radii=(0.6, 0.4, 0.3), distance_grid=grid) for grid in (None, SMALL))
    assert torch.equal(field.triangles().vertices, plain.triangles().vertices)
    points = plain.triangles().vertices.detach()
    assert torch.equal(field.color_at(points), plain.color_at(points))


def test_a_field_of_distances_is_all_that_moves_the_mesh_and_keeps_it_closed():
    shape = small(distance_grid=SMALL)
    groups = shape.parameter_groups()
    assert set(groups) == {"distance", "table", "mlp"} and len(groups["distance"]) == 3
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in groups["distance"]:
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    mesh = shape.triangles()
    assert (build_topology(mesh.tri).opposite >= 0).all()
    losses = shape.regularisers()
    (mesh.vertices.square().sum() + sum(losses.values())).backward()
    assert all(p.grad is not None and p.grad.any() for p in groups["distance"])
    assert {"distance", "offset"} <= dict(shape.named_buffers()).keys()
    # the graph is spent: losses of the next step need a new one
    shape.regularisers()["eikonal"].backward()
    shape.regularisers()["eikonal"].backward()


@pytest.mark.parametrize("name", ["distance", "offset"])
def test_a_field_is_added_to_what_the_stage_begins_with(name):
    shape = small(distance_grid=SMALL)
    draw = torch.Generator().manual_seed(1)
    assert shape.field is not None
    with torch.no_grad():
        for parameter in shape.parameter_groups()["distance"]:
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
        first, second = shape.field.layers
        hidden = (shape.field.features(shape.grid.positions) @ first).relu()
        changes = {"distance": (hidden @ second)[:, 0], "offset": (hidden @ second)[:, 1:]}
    plain = small()
    with torch.no_grad():
        plain.distance.copy_(shape.distance + changes["distance"])
        plain.offset.copy_(shape.offset + changes["offset"])
    assert changes[name].std() > 0.01
    torch.testing.assert_close(shape.triangles().vertices, plain.triangles().vertices)
    torch.testing.assert_close(shape.signed_distance(), plain.signed_distance())


def test_a_field_of_distances_learns_another_shape():
    shape = small(distance_grid=SMALL)
    inner = ~shape.grid.is_border
    wanted = (shape.grid.positions - torch.tensor([0.2, 0.0, 0.1])).norm(dim=1) - 0.4
    optimizer = torch.optim.AdamW(shape.parameter_groups()["distance"], lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        error = (shape.signed_distance() - wanted)[inner]
        error.square().mean().backward()
        optimizer.step()
    assert error.abs().mean() < 0.02


def test_a_field_of_distances_becomes_a_mesh_and_adds_to_that():
    shape = small(distance_grid=SMALL, resolution=12)
    assert shape.field is not None
    with torch.no_grad():
        shape.field.layers[1].fill_(0.1)
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.7)
    mesh = Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int64))
    shape.become(mesh)
    radii = shape.triangles().vertices.norm(dim=1)
    assert (radii - 0.7).abs().max() < 0.02


def test_it_can_become_a_mesh_with_colours():
    shape = small(resolution=16)
    torus = trimesh.creation.torus(major_radius=0.55, minor_radius=0.2)
    mesh = Mesh(torus.vertices.astype(np.float32), torus.faces.astype(np.int64))

    def color_at(points):
        return (points > 0).float() * 0.6 + 0.2

    shape.adopt(mesh, color_at)
    surface = shape.triangles()
    edges = build_topology(surface.tri).edges
    assert len(surface.vertices) - len(edges) + len(surface.tri) == 0  # one handle
    vertices = surface.vertices.detach()
    assert distances_to(mesh, vertices.double().numpy()).max() < 0.03
    away = (vertices.abs() > 0.05).all(dim=1)  # from where the colours jump
    error = (shape.color_at(vertices) - color_at(vertices))[away].abs()
    assert error.mean() < 0.03
    assert all(parameter.grad is None for parameter in shape.parameters())


def test_a_mesh_without_an_inside_is_refused_and_nothing_is_lost():
    shape = small()
    before = shape.triangles().vertices.detach().clone()
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    plate = trimesh.creation.box((0.9, 0.9, 1e-3))
    for form, faces in (
        (ball, ball.faces[:, ::-1]),  # inside out
        (plate, plate.faces),  # thin
        (plate, plate.faces[plate.face_normals[:, 2] > 0.5]),  # open
    ):
        mesh = Mesh(form.vertices.astype(np.float32) + 0.013, faces.astype(np.int64))
        with pytest.raises(InputError, match="finds no inside in this mesh"):
            shape.adopt(mesh, lambda points: points)
    assert torch.equal(shape.triangles().vertices, before)


def test_the_surface_follows_an_optimiser_that_counts_no_versions() -> None:
    field = build(Config(resolution=8), torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam([field.distance], lr=0.1, fused=True)
    with torch.no_grad():
        before = field.surface().vertices.clone()
    field.distance.grad = torch.ones_like(field.distance)
    optimizer.step()
    field.set_progress(0.5)
    with torch.no_grad():
        after = field.surface().vertices
    assert after.norm(dim=1).mean() > before.norm(dim=1).mean() + 0.05


def test_the_mesh_is_extracted_once_for_all_who_ask():
    field = small(resolution=6)
    first = field.surface()
    assert field.surface() is first
    with torch.no_grad():
        assert field.surface() is not first
        field.distance += 0.05
    moved = field.surface()
    assert len(moved.vertices) != len(first.vertices)
    moved.vertices.sum().backward()
    # the graph is spent: a second backward pass needs a new one
    field.surface().vertices.sum().backward()
