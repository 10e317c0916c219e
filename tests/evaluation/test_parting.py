"""Meshes of several objects are cut by planes, in the order that boxes say."""

import numpy as np
import pytest
from shapes import BLUE, GREEN, RED, moved, sphere

from dreamlab.core.layout import Box, Layout
from dreamlab.core.mesh import Mesh, joined
from dreamlab.evaluation.parting import AXES, PLACES, Plane, cut, parting_of
from dreamlab.jobs.layouts.words import layout_of

SIDE = layout_of("a red sphere next to a blue sphere")
STACK = layout_of("a red sphere on top of a blue sphere")
THREE = layout_of("a red sphere on top of a green sphere next to a blue sphere")


def colors_of(mesh: Mesh) -> set[tuple[float, ...]]:
    assert mesh.colors is not None
    return {tuple(color) for color in mesh.colors[mesh.faces.reshape(-1)].tolist()}


def balls(*places: tuple[float, float, float]) -> Mesh:
    """A red ball, a green one, a blue one at these places."""
    return joined(
        [moved(sphere(0.2, c), 1.0, at) for c, at in zip((RED, GREEN, BLUE), places, strict=False)]
    )


def test_planes_part_the_boxes_upright_ones_first() -> None:
    assert parting_of(SIDE) == Plane(1, 0, 1)
    assert parting_of(STACK) == Plane(2, 1, 0)
    assert parting_of(THREE) == Plane(1, Plane(2, 1, 0), 2)
    tower = layout_of("a cat on top of a table on top of a cube")
    assert parting_of(tower) == Plane(2, 2, Plane(2, 1, 0))


def test_boxes_that_overlap_are_parted_by_no_plane() -> None:
    boxes = (Box("a", (0.0, 0.0, 0.0), (0.5, 0.5, 0.5)), Box("b", (0.1, 0.1, 0.1), (0.5, 0.5, 0.5)))
    with pytest.raises(ValueError, match="no plane parts the boxes of 'a', 'b'"):
        parting_of(Layout(boxes))


def test_boxes_that_touch_are_parted_though_their_numbers_are_rounded() -> None:
    boxes = (
        Box("a", (0.0, 0.0, 0.0), (0.5, 0.5, 0.5)),
        Box("b", (0.0, 0.499, 0.0), (0.5, 0.5, 0.5)),
    )
    assert parting_of(Layout(boxes)) == Plane(1, 0, 1)


@pytest.mark.parametrize("at", [(0.0, 0.6, 0.0), (0.6, 0.0, 0.0)])
def test_a_row_is_cut_along_either_axis(at: tuple[float, float, float]) -> None:
    found = cut(balls((0.0, 0.0, 0.0), at), SIDE)
    apart = [{*colors_of(found.pieces[i])} for cut in found.cuts for i in cut]
    assert {tuple(map(np.float32, RED))} in apart and {tuple(map(np.float32, GREEN))} in apart


def test_every_cut_shares_out_all_triangles() -> None:
    mesh = balls((0.0, -0.4, 0.4), (0.0, -0.4, 0.0), (0.0, 0.4, 0.0))
    found = cut(mesh, THREE)
    assert 1 < len(found.cuts) <= len(AXES) * len(PLACES) ** 2
    for numbers in found.cuts:
        faces = np.concatenate([found.pieces[i].faces for i in numbers])
        assert sorted(map(tuple, faces)) == sorted(map(tuple, mesh.faces))
    assert len({piece.faces.tobytes() for piece in found.pieces}) == len(found.pieces)


def test_of_three_one_cut_has_each_alone_in_the_order_of_the_boxes() -> None:
    found = cut(balls((0.0, -0.4, 0.4), (0.0, -0.4, 0.0), (0.0, 0.4, 0.0)), THREE)
    wanted = [{tuple(np.float32(color).tolist())} for color in (RED, GREEN, BLUE)]
    assert wanted in [[colors_of(found.pieces[i]) for i in numbers] for numbers in found.cuts]
