import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamlab.ops.mesh.texels import BORDER, rasterize


def centers(index: np.ndarray, size: int) -> np.ndarray:
    row, column = np.divmod(index, size)
    return np.stack([(column + 0.5) / size, 1 - (row + 0.5) / size], axis=1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([16, 64, 200]))
def test_weights_put_covered_texels_at_their_centres(seed, size):
    uv = np.random.default_rng(seed).uniform(0, 1, (3, 2))
    faces = np.array([[0, 1, 2]])
    texels = rasterize(uv, faces, size)
    assert (texels.barycentric >= 0).all()
    assert np.allclose(texels.barycentric.sum(axis=1), 1)
    inside = texels.barycentric.min(axis=1) > 1e-3
    points = np.einsum("nk,kc->nc", texels.barycentric, uv)
    assert np.allclose(points[inside], centers(texels.index, size)[inside], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_number_of_covered_texels_is_the_area(seed):
    uv = np.random.default_rng(seed).uniform(0, 1, (3, 2))
    (ax, ay), (bx, by) = uv[1] - uv[0], uv[2] - uv[0]
    area = abs(ax * by - ay * bx) / 2
    size = 400
    texels = rasterize(uv, np.array([[0, 1, 2]]), size)
    perimeter = sum(np.linalg.norm(uv[k] - uv[k - 1]) for k in range(3))
    assert abs(texels.num_inside - area * size**2) < perimeter * size + 4


def test_triangles_that_share_an_edge_do_not_overlap():
    grid = np.linspace(0, 1, 24)
    u, v = np.meshgrid(grid, grid, indexing="ij")
    uv = np.stack([u.ravel(), v.ravel()], axis=1)
    i = (np.arange(23)[:, None] * 24 + np.arange(23)).ravel()
    faces = np.concatenate([np.stack([i, i + 24, i + 25], 1), np.stack([i, i + 25, i + 1], 1)])
    texels = rasterize(uv, faces, 128)
    assert texels.overlap == 0
    assert len(texels.index) == 128**2 == len(np.unique(texels.index))


def test_overlap_is_counted():
    uv = np.array([[0, 0], [1, 0], [0, 1], [0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
    texels = rasterize(uv, np.array([[0, 1, 2], [3, 4, 5]]), 200)
    assert texels.overlap == pytest.approx(0.25, abs=0.02)


def test_a_border_around_charts_belongs_to_them():
    uv = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]])
    texels = rasterize(uv, np.array([[0, 1, 2]]), 32)
    covered = np.zeros((32, 32), bool)
    covered.flat[texels.index] = True
    assert covered[16, 7] and not covered[16, 6]  # left edge at column 8; one texel of border
    assert BORDER == 1.0


def test_a_sliver_that_covers_no_centre_still_gets_texels():
    uv = np.array([[0.1, 0.505], [0.9, 0.505], [0.9, 0.506]])
    texels = rasterize(uv, np.array([[0, 1, 2]]), 32)
    assert texels.num_inside == 0
    assert len(texels.index) > 20


def test_triangles_without_area_are_skipped():
    uv = np.array([[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]])
    assert len(rasterize(uv, np.array([[0, 1, 2]]), 32).index) == 0
    assert len(rasterize(uv, np.zeros((0, 3), np.int64), 32).index) == 0
