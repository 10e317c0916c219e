"""From every representation, and from files, to every one that can take over: the object stays."""

from pathlib import Path

import pytest
import torch
import trimesh
from painted_ellipsoid import PARTS, ellipsoid, halves, made, painted

from dreamlab.export.files.placement import Placement
from dreamlab.export.files.splat_ply import write_splats
from dreamlab.representations import colors
from dreamlab.systems import surface
from dreamlab.systems.assets import load_asset, load_start
from dreamlab.systems.handover import begin_with, continue_from
from dreamlab.systems.stage import Stage

TARGETS = ("dmtet", "gaussians", "textured_mesh", "uv_mesh")
"""All that can take over an object of another kind."""
SLOW_PAIRS = {(first, "uv_mesh") for first in PARTS} | {("hashgrid", "textured_mesh")}
"""Pairs that say little beside the others: their second stage adopts a mesh, as in those."""
PAIRS = [
    pytest.param(a, b, marks=pytest.mark.slow) if (a, b) in SLOW_PAIRS else (a, b)
    for a in PARTS
    for b in TARGETS
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colors, "STEPS", 60)
    monkeypatch.setattr(surface, "OUTLINE_SIZE", 48)


def assert_looks_alike(before: Stage, after: Stage) -> None:
    """The same outline but for what Gaussians reach beyond their surface, and the same colours.

    Grey in place of both colours would be off by 0.27.
    """
    cameras = before.view_around(4, elevation=0.0)
    first, second = (stage.render(cameras, 64, 64) for stage in (before, after))
    outlines = first.alpha > 0.5, second.alpha > 0.5
    overlap = (outlines[0] & outlines[1]).sum() / (outlines[0] | outlines[1]).sum()
    assert overlap > 0.8
    covered = ((first.alpha > 0.95) & (second.alpha > 0.95))[..., 0]
    assert covered.float().mean() > 0.03
    assert (first.rgb - second.rgb)[covered].abs().mean() < 0.12


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_stage_goes_on_with_the_object_of_any_other_kind(first: str, second: str) -> None:
    before, after = painted(first), made(second, "second")
    continue_from(after, before)
    assert_looks_alike(before, after)


@pytest.mark.parametrize("first", ["hashgrid", "gaussians"])
def test_a_surface_that_is_fused_from_depth_is_handed_on_too(first: str) -> None:
    before, after = painted(first, surface="tsdf"), made("textured_mesh", "second")
    continue_from(after, before)
    assert_looks_alike(before, after)


@pytest.mark.parametrize("name", TARGETS)
def test_a_stage_begins_with_the_model_of_a_file(name: str, tmp_path: Path) -> None:
    form, path = ellipsoid(), tmp_path / "model.ply"
    rgb = (255 * halves(torch.from_numpy(form.vertices)).numpy()).round().astype("uint8")
    trimesh.Trimesh(form.vertices, form.faces, vertex_colors=rgb, process=False).export(path)
    stage, expected = made(name), made("textured_mesh")
    begin_with(stage, load_start(path, 1.0))
    asset = load_asset(path, 1.0)
    expected.representation.adopt(asset.mesh, asset.color_at)
    assert_looks_alike(expected, stage)


def test_gaussians_begin_with_those_of_a_file_whatever_its_size(tmp_path: Path) -> None:
    before, after = painted("gaussians"), made("gaussians", "second")
    path = tmp_path / "splats.ply"
    write_splats(path, before.representation.splats(), Placement(2.0, (0.1, 0.0, 0.0)))
    begin_with(after, load_start(path, 1.0))
    mine, theirs = (stage.representation.splats() for stage in (after, before))
    torch.testing.assert_close(mine.colors, theirs.colors, atol=2e-3, rtol=0)
    ratio = mine.scales / theirs.scales
    torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio), atol=1e-3, rtol=0)
