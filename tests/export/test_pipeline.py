import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from soft_shapes import EXTRAS, SoftShape, ball, octant_color, reference_of, statue, union, views

from dreamlab.core.config import build, field_docs, to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.splat_file import read_splats
from dreamlab.export import pipeline
from dreamlab.export.files.reload import load_glb
from dreamlab.export.pipeline import ExportConfig, export_model
from dreamlab.ops.triangles.raycast import silhouette
from dreamlab.ops.volume.threshold import SilhouetteReference
from dreamlab.representations import gaussians, uv_mesh

SMALL = {"resolution": 48, "max_faces": 2000, "texture_size": 256, "unwrap": "box"}


def export(shape, folder: Path, reference=None, **settings):
    config = ExportConfig(**{**SMALL, **settings})
    reference = reference or reference_of(shape)
    return export_model(shape, reference, config, folder, name="x", extras=EXTRAS)


def test_the_mesh_fits_the_renders_and_every_check_passes(exported):
    report = exported.report
    assert report.silhouette_iou > 0.97
    assert report.valid and report.warnings == []
    assert report.watertight and report.components_kept == 1 and report.uv_overlap < 0.005
    assert report.unwrap_method == "xatlas"


def test_the_face_budget_is_kept(exported):
    assert 0.9 * exported.config.max_faces < exported.report.faces <= exported.config.max_faces


def test_the_report_is_plain_json(exported):
    plain = json.loads(json.dumps(exported.report.to_plain(), allow_nan=False))
    assert plain["valid"] is True and plain["faces"] == exported.report.faces
    assert all(check["passed"] for check in plain["checks"])
    assert plain["seconds"].keys() == {name for name, _ in exported.phases}


def test_phases_are_reported_from_0_to_1_in_order(exported):
    names = list(dict.fromkeys(name for name, _ in exported.phases))
    expected = ["density", "threshold", "extract", "clean", "simplify", "unwrap", "bake", "write"]
    assert names == [*expected, "check"]
    for name in names:
        fractions = [fraction for other, fraction in exported.phases if other == name]
        assert fractions[0] == 0 and fractions[-1] == 1
        assert fractions == sorted(fractions)


def test_floaters_are_dropped_and_counted(tmp_path):
    dust = union(*(ball(0.045, c) for c in [(0.8, 0.8, 0.8), (-0.8, 0.8, 0.8), (0.8, -0.8, -0.8)]))
    shape = SoftShape(union(statue(), dust), octant_color, softness=0.004)
    reference = reference_of(SoftShape(statue(), octant_color))
    report = export(shape, tmp_path, reference, min_component_share=0.05)
    assert (report.components_kept, report.components_dropped) == (1, 3)
    assert report.silhouette_iou > 0.95


def test_a_given_threshold_is_used(tmp_path):
    shape = SoftShape(ball(0.5), octant_color, peak=100.0, softness=0.1)
    found = []
    for threshold in (20.0, 80.0):
        report = export(shape, tmp_path, threshold=threshold)
        assert report.threshold == threshold
        world = load_glb(tmp_path / "model.glb", undo_placement=True)
        found.append(np.linalg.norm(world.vertices, axis=1).mean())
    # peak * sigmoid(-(r - 0.5) / softness) = threshold
    expected = [0.5 - 0.1 * np.log(t / (100 - t)) for t in (20.0, 80.0)]
    assert np.allclose(found, expected, atol=0.01)


def test_smoothing_is_undone_where_it_harms_the_outline(tmp_path):
    """Thin spikes vanish under 200 rounds of smoothing; noise on a ball does not matter."""
    spikes = [ball(0.35)]
    for angle in np.linspace(0, 2 * np.pi, 10, endpoint=False):
        direction = torch.tensor([np.cos(angle), np.sin(angle), 0.0], dtype=torch.float32)
        spikes.append(
            lambda p, d=direction: (p - (p @ d).clamp(0, 0.9)[:, None] * d).norm(dim=-1) - 0.035
        )
    spiky = SoftShape(union(*spikes), octant_color)
    assert not export(spiky, tmp_path, smoothing=200).smoothed
    assert export(SoftShape(ball(), octant_color), tmp_path, smoothing=5).smoothed


def test_an_empty_field_is_refused_with_a_fix(tmp_path):
    empty = SoftShape(ball(), octant_color, peak=0.0)
    with pytest.raises(InputError, match="nothing to export") as caught:
        export(empty, tmp_path)
    assert "steps" in caught.value.fix
    assert not list(tmp_path.iterdir())


def test_a_threshold_above_the_density_is_refused_with_a_fix(tmp_path):
    with pytest.raises(InputError, match="threshold") as caught:
        export(SoftShape(ball(), octant_color, peak=10.0), tmp_path, threshold=50.0)
    assert "below" in caught.value.fix


def test_a_bad_outline_is_warned_of(tmp_path):
    shape = SoftShape(ball(0.5), octant_color)
    wrong = SilhouetteReference(views(), reference_of(shape).alpha.roll(12, dims=2))
    report = export(shape, tmp_path, wrong)
    assert any("outline" in warning for warning in report.warnings)


def test_a_failed_unwrap_is_warned_of_and_the_file_is_still_valid(tmp_path, monkeypatch):
    crash = (sys.executable, "-c", "raise SystemExit(3)")
    monkeypatch.setattr(pipeline, "unwrap", functools.partial(pipeline.unwrap, child=crash))
    report = export(SoftShape(statue(), octant_color), tmp_path, unwrap="xatlas")
    assert report.unwrap_method == "box" and report.valid
    assert "status 3" in report.warnings[0]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        export(SoftShape(ball(), octant_color), tmp_path / "absent")


def test_the_height_is_that_of_the_config(tmp_path):
    report = export(SoftShape(statue(), octant_color), tmp_path, height=2.5)
    assert report.valid
    low, high = load_glb(tmp_path / "model.glb").bounds
    assert high[2] - low[2] == pytest.approx(2.5, rel=1e-5)


def test_the_settings_survive_plain_values_and_are_documented():
    config = ExportConfig(formats=("glb", "stl"), threshold=3.0, unwrap="box")
    assert build(ExportConfig, to_plain(config)) == config
    assert set(field_docs(ExportConfig)) == set(to_plain(config))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("formats", []),
        ("formats", ["dae"]),
        ("height", 0.0),
        ("parts", "some"),
        ("resolution", 4),
        ("threshold", -1.0),
        ("min_component_share", 1.0),
        ("smoothing", -1),
        ("max_faces", 5),
        ("unwrap", "magic"),
        ("unwrap_time_limit", 0.0),
        ("texture_size", 10),
    ],
)
def test_settings_out_of_range_are_refused(key, value):
    with pytest.raises(InputError):
        build(ExportConfig, {key: value})


def test_gaussians_are_also_written_as_they_are_where_the_mesh_stands(tmp_path):
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    mesh = Mesh(sphere.vertices.astype(np.float32), sphere.faces.astype(np.int64))
    cameras = views()
    reference = SilhouetteReference(cameras, silhouette(mesh, cameras, 64, 64).float())
    cloud = gaussians.build(gaussians.Config(count=800, max_count=800))
    cloud.adopt(mesh, lambda points: (points > 0).float())
    report = export(cloud, tmp_path, reference, height=2.0)
    assert report.valid and report.files == ["model.glb", "splats.ply"]
    splats = read_splats(tmp_path / "splats.ply")
    assert len(splats.means) == 800
    low, high = splats.means.amin(dim=0), splats.means.amax(dim=0)
    assert low[2] == pytest.approx(0, abs=0.1) and high[2] == pytest.approx(2, abs=0.1)
    torch.testing.assert_close(splats.colors, cloud.splats().colors, atol=1e-3, rtol=0)


def test_a_texture_is_written_as_it_was_optimised(tmp_path):
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    mesh = Mesh(sphere.vertices.astype(np.float32), sphere.faces.astype(np.int64))
    shape = uv_mesh.build(uv_mesh.Config(texture_size=128, unwrap="box", max_faces=2000))
    shape.adopt(mesh, octant_color)
    cameras = views()
    reference = SilhouetteReference(cameras, silhouette(mesh, cameras, 64, 64).float())
    report = export(shape, tmp_path, reference, formats=("glb", "obj", "ply", "stl"))
    assert report.valid and report.warnings == []
    assert report.watertight and report.silhouette_iou > 0.97 and report.uv_overlap < 0.005
    assert report.unwrap_method is None and "bake" not in report.seconds
    written = trimesh.load_scene(tmp_path / "model.glb", process=False).to_mesh()
    painted = shape.painted_mesh()
    assert report.faces == len(written.faces) == len(painted.faces) <= 2000
    picture = np.asarray(written.visual.material.baseColorTexture.convert("RGB"))
    np.testing.assert_array_equal(picture, painted.texture)
