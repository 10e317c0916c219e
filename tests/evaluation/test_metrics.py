"""Each metric has the value that geometry or colour theory says it has."""

import math

import numpy as np
import pytest
import torch
import trimesh
from analytic_judge import ColorJudge, images_of
from shapes import BLUE, GREEN, RED, WHITE, moved, painted, sphere

from dreamlab.core.mesh import Mesh, joined
from dreamlab.evaluation import metrics
from dreamlab.evaluation.measure import measure
from dreamlab.evaluation.metrics import (
    chamfer_distance,
    chroma_excess,
    color_error,
    colors_of_both,
    facing,
    r_precision,
    silhouette_iou,
)
from dreamlab.evaluation.prompts import bench_prompts
from dreamlab.evaluation.views import judge_cameras, shape_cameras
from dreamlab.ops.triangles.distance import distances_to, sample_surface
from dreamlab.priors.toybox.judge.network import Judge
from dreamlab.priors.toybox.world.captions import parse_prompt, vocabulary
from dreamlab.priors.toybox.world.truth import true_mesh

PROMPTS = ["a red duck", "a blue duck", "a red car", "a green mug"]


@pytest.fixture(scope="module")
def mug() -> Mesh:
    return true_mesh(parse_prompt("a striped red and white mug"), resolution=64)


def error_between(a: Mesh, b: Mesh) -> float:
    seen = colors_of_both(a, b, shape_cameras())
    assert seen is not None
    return color_error(*seen)


def test_a_mesh_is_equal_to_itself(mug: Mesh) -> None:
    assert silhouette_iou(mug, mug, shape_cameras()) == 1.0
    assert chamfer_distance(mug, mug) < 1e-6
    assert error_between(mug, mug) == pytest.approx(0.0, abs=1e-4)


def test_iou_of_a_sphere_and_its_inscribed_cube_is_between_the_extreme_projections() -> None:
    """Seen from afar a cube of side 2a covers from 4a² (a face) to 4√3 a² of the 3πa²."""
    half = 0.4
    cube = painted(trimesh.creation.box(extents=(2 * half,) * 3))
    iou = silhouette_iou(sphere(half * math.sqrt(3)), cube, shape_cameras())
    assert 4 / (3 * math.pi) < iou < 4 * math.sqrt(3) / (3 * math.pi)


def test_iou_of_objects_that_do_not_overlap_is_zero() -> None:
    a, b = moved(sphere(0.1), 1.0, (0, 0, 0.6)), moved(sphere(0.1), 1.0, (0, 0, -0.6))
    assert silhouette_iou(a, b, shape_cameras()) == 0.0


def test_chamfer_distance_of_concentric_spheres_is_the_difference_of_their_radii() -> None:
    assert chamfer_distance(sphere(0.5), sphere(0.7)) == pytest.approx(0.2, abs=0.003)


def test_chamfer_distance_is_symmetric_and_scales(mug: Mesh) -> None:
    ball = sphere(0.5)
    there, back = chamfer_distance(mug, ball), chamfer_distance(ball, mug)
    assert there == pytest.approx(back, rel=0.02)
    big = chamfer_distance(moved(mug, 2.0, (0, 0, 0)), moved(ball, 2.0, (0, 0, 0)))
    assert big == pytest.approx(2 * there, rel=1e-4)


def test_points_are_drawn_by_area_and_lie_on_the_surface() -> None:
    big, small = sphere(0.8), moved(sphere(0.4), 1.0, (3, 0, 0))
    points = sample_surface(joined([big, small]), 5000, seed=3)
    assert np.mean(points[:, 0] > 2) == pytest.approx(0.2, abs=0.02)
    assert distances_to(joined([big, small]), points).max() < 1e-5


def test_color_error_of_greys_is_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two greys CIEDE2000 is |ΔL| / S_L (Sharma et al. 2005, eqs. 15 and 22)."""
    monkeypatch.setattr(metrics, "AMBIENT", 1.0)
    first, second = 0.4, 0.6

    def lightness(grey: float) -> float:
        return 116 * (((grey + 0.055) / 1.055) ** 2.4) ** (1 / 3) - 16

    l1, l2 = lightness(first), lightness(second)
    middle = ((l1 + l2) / 2 - 50) ** 2
    expected = (l2 - l1) / (1 + 0.015 * middle / math.sqrt(20 + middle))
    found = error_between(sphere(0.5, (first,) * 3), sphere(0.5, (second,) * 3))
    assert found == pytest.approx(expected, rel=1e-3)


def test_exchanged_colors_are_an_error_though_the_palette_is_the_same() -> None:
    def two(left: tuple[float, float, float], right: tuple[float, float, float]) -> Mesh:
        balls = (
            moved(sphere(0.3, left), 1, (0, -0.4, 0)),
            moved(sphere(0.3, right), 1, (0, 0.4, 0)),
        )
        return joined(balls)

    same = error_between(two(RED, BLUE), two(RED, BLUE))
    exchanged = error_between(two(BLUE, RED), two(RED, BLUE))
    assert same == pytest.approx(0.0, abs=1e-4)
    assert exchanged > 20


def test_only_pixels_of_both_meshes_count_for_color() -> None:
    small, large = sphere(0.3, GREEN), sphere(0.6, GREEN)
    found = error_between(small, large)
    assert found < 6
    a, b = moved(sphere(0.1), 1.0, (0, 0, 0.6)), moved(sphere(0.1), 1.0, (0, 0, -0.6))
    assert colors_of_both(a, b, shape_cameras()) is None


def test_white_on_white_is_still_seen() -> None:
    found = error_between(sphere(0.5, WHITE), sphere(0.5, RED))
    assert found > 20


def test_paint_that_is_too_strong_has_an_excess_of_chroma_and_pale_paint_a_lack() -> None:
    def excess(mesh: Mesh) -> float:
        seen = colors_of_both(mesh, sphere(0.5, (0.7, 0.4, 0.4)), shape_cameras())
        assert seen is not None
        return chroma_excess(*seen)

    assert excess(sphere(0.5, (0.7, 0.4, 0.4))) == pytest.approx(0.0, abs=1e-4)
    assert excess(sphere(0.5, (0.9, 0.1, 0.1))) > 10
    assert excess(sphere(0.5, (0.5, 0.5, 0.5))) < -10


def test_chroma_excess_is_the_formula() -> None:
    grey = np.array([[50.0, 0.0, 0.0], [60.0, 0.0, 0.0]])
    paint = np.array([[50.0, 3.0, 4.0], [60.0, -6.0, 8.0]])
    assert chroma_excess(paint, grey) == pytest.approx(7.5)
    assert chroma_excess(grey, paint) == pytest.approx(-7.5)


def test_r_precisions_of_all_prompts_share_the_views_out() -> None:
    torch.manual_seed(0)
    judge = Judge(vocabulary()).eval().requires_grad_(False)
    images = torch.rand(16, 64, 64, 3)
    shares = [r_precision(images, judge_cameras(), PROMPTS, own, judge) for own in range(4)]
    assert sum(shares) == pytest.approx(1.0)
    assert all(0 <= share <= 1 for share in shares)


def sides_of_ring(front: str, left: str, back: str, right: str) -> list[str]:
    """Which side is shown at the 16 azimuths of the judge's ring, changing at the diagonals."""
    quarters = [front, left, back, right]
    return [quarters[((index + 2) // 4) % 4] for index in range(16)]


def test_an_object_with_one_face_in_front_is_correct() -> None:
    images = images_of(sides_of_ring("front", "side", "back", "side"))
    found = facing(images, judge_cameras(), "a red duck", ColorJudge())
    assert found.correct and found.num_faces == 1


@pytest.mark.parametrize(
    ("sides", "front", "back", "faces"),
    [
        (("back", "side", "front", "side"), False, False, 1),
        (("front", "side", "front", "side"), True, False, 2),
        (("front", "front", "back", "side"), True, True, 2),
        (("front", "front", "front", "front"), True, False, 4),
        (("side", "side", "back", "side"), False, True, 0),
    ],
)
def test_faces_elsewhere_are_not(
    sides: tuple[str, str, str, str], front: bool, back: bool, faces: int
) -> None:
    images = images_of(sides_of_ring(*sides))
    found = facing(images, judge_cameras(), "a red duck", ColorJudge())
    assert (found.front_in_front, found.back_behind, found.num_faces) == (front, back, faces)
    assert not found.correct


@pytest.mark.parametrize(
    ("number", "has_front"), [(0, True), pytest.param(2, False, marks=pytest.mark.slow)]
)
def test_the_judge_is_asked_what_it_can_answer(number: int, has_front: bool) -> None:
    torch.manual_seed(0)
    prompt = bench_prompts()[number]
    truth = prompt.truth(resolution=32)
    judge = Judge(vocabulary()).eval().requires_grad_(False)
    among = [other.text for other in bench_prompts()]
    found = measure(truth, truth, prompt, judge, among)
    assert found.r_precision is not None and 0 <= found.r_precision <= 1
    assert (found.facing is not None) == has_front
    assert found == measure(truth, truth, prompt, judge, among)
