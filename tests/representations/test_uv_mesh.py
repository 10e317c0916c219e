"""Claims about a given mesh with a texture: what it takes over, what guides it, what is written."""

import numpy as np
import pytest
import torch
import trimesh

from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import Adopting, Atlased, Representation, Shape
from dreamlab.ops.mesh.clean import is_watertight
from dreamlab.ops.triangles.distance import sample_faces, sample_surface
from dreamlab.ops.triangles.paint import Paint
from dreamlab.representations.uv_mesh import Config, build


def small(**settings):
    return build(Config(**{"texture_size": 128, "unwrap": "box", **settings}))


def box() -> Mesh:
    model = trimesh.creation.box((0.8, 0.6, 1.0)).subdivide().subdivide()
    return Mesh(model.vertices.astype(np.float32), model.faces.astype(np.int64))


def smooth_color(points):
    return 0.5 + 0.4 * torch.sin(3 * points)


def on_surface(mesh: Mesh, count: int = 3000) -> torch.Tensor:
    return torch.from_numpy(sample_surface(mesh, count, seed=0)).float()


@pytest.fixture(scope="module")
def painted_box():
    shape = small()
    shape.adopt(box(), smooth_color)
    return shape


def test_it_starts_as_a_grey_ball():
    shape = small()
    assert isinstance(shape, Shape | Adopting | Atlased) and isinstance(shape, Representation)
    vertices = shape.triangles().vertices
    torch.testing.assert_close(vertices.norm(dim=1), torch.full((len(vertices),), 0.5))
    torch.testing.assert_close(shape.color_at(vertices), torch.full_like(vertices, 0.5))


def test_it_takes_over_shape_and_colours_and_no_seam_shows(painted_box):
    mesh = painted_box.triangles().to_mesh()
    assert is_watertight(mesh)
    np.testing.assert_allclose(mesh.bounds, box().bounds, atol=1e-6)
    points = on_surface(mesh)
    error = (painted_box.color_at(points) - smooth_color(points)).abs()
    assert error.mean() < 0.005 and error.max() < 0.06
    seams = painted_box.atlas.seams
    assert len(seams) > 100
    assert painted_box.regularisers()["seams"] < 1e-4


def test_points_of_seams_are_the_same_point_of_the_mesh_on_both_sides(painted_box):
    """The colours are a function of the place alone, and tell places apart."""
    shape = small(texture_size=512)
    shape.adopt(box(), lambda points: points + 0.5)
    one, other = shape._read(shape.atlas.seams.flatten(0, 1)).unflatten(0, (-1, 2)).unbind(dim=1)
    torch.testing.assert_close(one, other, atol=0.02, rtol=0)
    assert one.std(dim=0).min() > 0.2


def test_what_is_written_looks_like_what_was_optimised(painted_box):
    with torch.no_grad():
        kept = painted_box.texture.clone()
        painted_box.texture.add_(
            torch.randn(kept.shape, generator=torch.Generator().manual_seed(1))
        )
    written = painted_box.painted_mesh()
    whole = painted_box.triangles().to_mesh()
    points, face = sample_faces(whole, 2000, seed=2)
    weight = trimesh.triangles.points_to_barycentric(whole.triangles[face].astype(float), points)
    shown = Paint(written).at(torch.from_numpy(face), torch.from_numpy(weight).float())
    found = painted_box.color_at(torch.from_numpy(points).float())
    # at an edge of the mesh the other triangle may be taken: seen from there the colour is another
    differs = ((shown - found).abs() > 0.02).any(dim=1)
    assert differs.float().mean() < 0.02
    with torch.no_grad():
        painted_box.texture.copy_(kept)


def test_what_is_written_is_cut_along_seams_with_smooth_normals_and_no_background(painted_box):
    written = painted_box.painted_mesh()
    assert written.uv is not None and written.normals is not None and written.texture is not None
    assert len(written.vertices) > len(painted_box.triangles().vertices)
    np.testing.assert_allclose(np.linalg.norm(written.normals, axis=1), 1, atol=1e-5)
    assert written.texture.shape == (128, 128, 3)
    assert written.texture.min() > 20  # the darkest colour of the surface is 0.1


def test_the_gradient_of_a_colour_goes_to_the_four_texels_around_it(painted_box):
    point = torch.tensor([[0.4, 0.05, 0.07]])
    painted_box.texture.grad = None
    painted_box.albedo(point).sum().backward()
    touched = painted_box.texture.grad.abs().sum(dim=-1) > 0
    rows, columns = torch.nonzero(touched, as_tuple=True)
    assert 1 <= len(rows) <= 4
    assert int(rows.max() - rows.min()) <= 1 and int(columns.max() - columns.min()) <= 1


def test_descent_on_colours_paints_the_surface():
    shape = small()
    shape.adopt(box(), lambda points: torch.full_like(points, 0.3))
    points = on_surface(box(), 6000)
    optimizer = torch.optim.Adam([shape.texture], lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        (shape.albedo(points) - smooth_color(points)).square().sum().backward()
        optimizer.step()
    assert (shape.color_at(points) - smooth_color(points)).abs().mean() < 0.02


def test_its_regularisers_wear_off_noise_and_close_seams():
    def after(**weights) -> dict[str, float]:
        shape = small()
        with torch.no_grad():
            shape.texture.normal_(generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.Adam([shape.texture], lr=0.1)
        for _ in range(30):
            optimizer.zero_grad()
            losses = shape.regularisers()
            torch.stack([w * losses[name] for name, w in weights.items()]).sum().backward()
            optimizer.step()
        return {name: float(value.detach()) for name, value in shape.regularisers().items()}

    before = after(seams=0.0)
    assert after(seams=1.0)["seams"] < 0.1 * before["seams"]
    assert after(texture_variation=1.0)["texture_variation"] < 0.3 * before["texture_variation"]


def test_the_total_variation_does_not_depend_on_the_size_of_the_texture():
    values = []
    for size in (128, 256):
        shape = small(texture_size=size)
        with torch.no_grad():
            ramp = torch.linspace(0.2, 0.8, size).logit()
            shape.texture.copy_(ramp[:, None, None].expand(size, size, 3))
        values.append(float(shape.regularisers()["texture_variation"].detach()))
    assert values[0] == pytest.approx(values[1], rel=0.05)
    assert values[0] == pytest.approx(0.6 / 2, rel=0.1)  # over half of the pairs, those below


def test_only_vertices_with_a_reach_move_and_their_colours_come_along():
    shape = small(reach=0.1)
    shape.adopt(box(), smooth_color)
    points = on_surface(shape.triangles().to_mesh(), 500)
    before = shape.color_at(points)
    assert shape.parameter_groups().keys() == {"offset", "texture"}
    with torch.no_grad():
        shape.body.offset.fill_(50.0)
    torch.testing.assert_close(shape.color_at(points + 0.1), before, atol=1e-3, rtol=0)
    rigid = small()
    with torch.no_grad():
        rigid.body.offset.fill_(50.0)
    assert torch.equal(rigid.triangles().vertices, rigid.body.given)


def test_a_state_of_another_mesh_can_be_loaded_and_looks_the_same(painted_box):
    other = small()
    parameter = other.texture
    other.load_state_dict(painted_box.state_dict())
    assert other.texture is parameter
    points = on_surface(box(), 200)
    assert torch.equal(other.color_at(points), painted_box.color_at(points))
    mine, theirs = other.painted_mesh(), painted_box.painted_mesh()
    for name in ("vertices", "faces", "uv", "texture"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    for name, value in painted_box.regularisers().items():
        assert torch.equal(other.regularisers()[name], value)


def test_a_mesh_is_repaired_and_brought_to_the_budget():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    speck = trimesh.creation.icosphere(subdivisions=0, radius=0.01).apply_translation((0.8, 0, 0))
    both = trimesh.util.concatenate([ball, speck])
    shape = small(max_faces=1000, smoothing=5)
    shape.adopt(Mesh(both.vertices.astype(np.float32), both.faces.astype(np.int64)), smooth_color)
    mesh = shape.triangles().to_mesh()
    assert 900 < len(mesh.faces) <= 1000 and is_watertight(mesh)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.5).max() < 0.01


@pytest.mark.parametrize(
    "settings",
    [
        {"half_extent": 0.4},
        {"reach": -0.1},
        {"texture_size": 8},
        {"max_faces": 10},
        {"min_component_share": 1.0},
        {"smoothing": -1},
        {"unwrap_time_limit": 0.0},
    ],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Config(**settings)
