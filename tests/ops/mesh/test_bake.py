import numpy as np
import pytest
import torch
from soft_shapes import SoftShape, octant_color, torus

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.ops.mesh.bake import bake, vertex_colors
from dreamlab.ops.mesh.clean import remove_degenerate, vertex_normals
from dreamlab.ops.mesh.unwrap import unwrap
from dreamlab.ops.triangles.paint import sample_texture


def smooth_color(points: torch.Tensor) -> torch.Tensor:
    return 0.5 + 0.4 * torch.sin(3 * points)


@pytest.fixture(scope="module")
def cut() -> Mesh:
    surface = remove_degenerate(SoftShape(torus(), octant_color).surface(200.0, 40))
    mesh = Mesh(surface.vertices, surface.faces, normals=vertex_normals(surface))
    return unwrap(mesh, method="box", texture_size=512, time_limit=60.0).mesh


def surface_points(mesh: Mesh, seed: int = 0, per_face: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Random points on the surface and their UV, edges and corners included."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet([0.4, 0.4, 0.4], (len(mesh.faces), per_face))
    assert mesh.uv is not None
    points = np.einsum("fpk,fkc->fpc", weights, mesh.triangles).reshape(-1, 3)
    uv = np.einsum("fpk,fkc->fpc", weights, mesh.uv[mesh.faces]).reshape(-1, 2)
    return points.astype(np.float32), uv


def test_sampling_the_texture_gives_the_colour_of_the_surface(cut):
    texture, _ = bake(cut, smooth_color, 512)
    points, uv = surface_points(cut)
    sampled = sample_texture(torch.tensor(texture), torch.tensor(uv))
    expected = smooth_color(torch.tensor(points))
    error = (sampled - expected).abs()
    assert error.mean() < 0.004
    assert error.max() < 0.05


def test_no_background_shows_through_seams_at_lower_mip_levels(cut):
    """The field is bright everywhere; any texel darker than it would be background."""
    texture, texels = bake(cut, lambda p: torch.full_like(p, 0.8), 512)
    level = texture.astype(float)
    assert len(texels.index) < texture.shape[0] ** 2
    while level.shape[0] >= 1:
        assert np.allclose(level, 204, atol=1)
        if level.shape[0] == 1:
            break
        half = level.shape[0] // 2
        level = level.reshape(half, 2, half, 2, 3).mean(axis=(1, 3))


def test_empty_texels_take_the_nearest_colour(cut):
    texture, texels = bake(cut, smooth_color, 128)
    covered = np.zeros(128 * 128, bool)
    covered[texels.index] = True
    rows, columns = np.divmod(np.nonzero(covered)[0], 128)
    for texel in np.nonzero(~covered)[0][::97]:
        row, column = divmod(int(texel), 128)
        distance = (rows - row) ** 2 + (columns - column) ** 2
        nearest = np.nonzero(distance == distance.min())[0]
        colors = texture[rows[nearest], columns[nearest]]
        assert (colors == texture[row, column]).all(axis=1).any()


def test_only_texels_of_triangles_are_asked_for(cut):
    asked = 0

    def count(points: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += len(points)
        assert not torch.is_grad_enabled()
        return torch.zeros_like(points)

    fractions: list[float] = []
    _, texels = bake(cut, count, 256, on_progress=fractions.append)
    assert asked == len(texels.index) < 256**2
    assert fractions[-1] == 1.0


def test_vertex_colours_are_those_of_the_field(cut):
    colors = vertex_colors(cut, smooth_color)
    assert np.allclose(colors, smooth_color(torch.tensor(cut.vertices)).numpy(), atol=1 / 255)


def test_colours_that_are_not_finite_are_refused(cut):
    with pytest.raises(InputError, match="not finite"):
        bake(cut, lambda p: p * float("nan"), 64)


def test_a_mesh_without_uv_is_refused(cut):
    with pytest.raises(InputError, match="no UV"):
        bake(Mesh(cut.vertices, cut.faces), smooth_color, 64)
