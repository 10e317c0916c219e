"""Claims about a given mesh with colours to be found."""

import numpy as np
import pytest
import torch
import trimesh

from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import Adopting, Representation, Shape
from dreamlab.ops.hashgrid.encode import HashGridConfig
from dreamlab.representations import colors
from dreamlab.representations.textured_mesh import Config, build

SMALL = HashGridConfig(log2_table_size=10, num_levels=4, base_resolution=4, finest_resolution=32)


def small(**settings):
    return build(Config(grid=SMALL, **settings), torch.Generator().manual_seed(0))


def box() -> Mesh:
    model = trimesh.creation.box((0.8, 0.6, 1.0)).subdivide()
    return Mesh(model.vertices.astype(np.float32), model.faces.astype(np.int64))


def halves(points):
    """Red above, blue below."""
    up = (points[:, 2:] > 0).float()
    return up * torch.tensor([0.9, 0.1, 0.1]) + (1 - up) * torch.tensor([0.1, 0.1, 0.8])


@pytest.fixture
def coarse_colors(monkeypatch):
    """Colours need not be right where the shape is the claim."""
    monkeypatch.setattr(colors, "STEPS", 2)


def test_it_starts_as_a_grey_ball():
    shape = small()
    assert isinstance(shape, Shape | Adopting) and isinstance(shape, Representation)
    mesh = shape.triangles()
    torch.testing.assert_close(mesh.vertices.norm(dim=1), torch.full((len(mesh.vertices),), 0.5))
    albedo = shape.color_at(mesh.vertices)
    torch.testing.assert_close(albedo, torch.full_like(albedo, 0.5), atol=0.01, rtol=0)


def test_it_becomes_a_mesh_vertex_for_vertex_and_takes_its_colours():
    shape, mesh = small(), box()
    shape.adopt(mesh, halves)
    now = shape.triangles()
    np.testing.assert_array_equal(now.vertices.detach().numpy(), mesh.vertices)
    np.testing.assert_array_equal(now.tri.numpy(), mesh.faces)
    points = now.vertices.detach()
    clear = points[:, 2].abs() > 0.2
    error = (shape.color_at(points) - halves(points))[clear].abs().mean()
    assert error < 0.05


@pytest.mark.usefixtures("coarse_colors")
def test_only_vertices_with_a_reach_move_and_never_farther():
    fixed = small()
    with torch.no_grad():
        fixed.body.offset.fill_(50.0)
    torch.testing.assert_close(fixed.triangles().vertices, fixed.body.given)
    shape = small(reach=0.1)
    shape.adopt(box(), halves)
    before = shape.triangles().vertices.detach()
    with torch.no_grad():
        shape.body.offset.fill_(50.0)
    torch.testing.assert_close(shape.triangles().vertices.detach(), before + 0.1)
    shape.triangles().vertices.sum().backward()
    assert shape.parameter_groups()["offset"][0].grad is not None


@pytest.mark.usefixtures("coarse_colors")
def test_edges_are_found_once_for_a_mesh_that_moves():
    shape = build(Config(reach=0.1))
    edges = shape.triangles().topology
    with torch.no_grad():
        shape.body.offset.add_(0.3)
    assert shape.triangles().topology is edges
    ball = trimesh.creation.icosphere(subdivisions=1)
    shape.body.become(Mesh(np.asarray(ball.vertices, np.float32), np.asarray(ball.faces)))
    assert len(shape.triangles().topology.edges) == len(ball.faces) * 3 // 2


def test_a_state_of_another_mesh_can_be_loaded_and_the_optimiser_keeps_its_parameter():
    first, second = small(reach=0.1), small(reach=0.1)
    first.adopt(box(), halves)
    with torch.no_grad():
        first.body.offset.uniform_(-1, 1)
    parameter = second.body.offset
    second.load_state_dict(first.state_dict())
    assert second.body.offset is parameter and parameter.shape == first.body.offset.shape
    torch.testing.assert_close(second.triangles().vertices, first.triangles().vertices)
    points = torch.rand(20, 3) - 0.5
    torch.testing.assert_close(second.color_at(points), first.color_at(points))


@pytest.mark.usefixtures("coarse_colors")
def test_the_laplacian_does_not_depend_on_the_size_of_the_mesh():
    values = []
    for size in (1.0, 0.5):
        mesh = box()
        shape = small(reach=0.1)
        shape.adopt(Mesh(mesh.vertices * size, mesh.faces), halves)
        values.append(shape.regularisers()["laplacian"].item())
    assert values[0] == pytest.approx(values[1], rel=1e-4) and values[0] > 0


@pytest.mark.parametrize("settings", [{"half_extent": 0.4}, {"reach": -0.1}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Config(**settings)
