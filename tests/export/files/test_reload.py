import numpy as np
import pytest
import torch
from soft_shapes import octant_color, render_alpha, views

from dreamlab.core.errors import InputError
from dreamlab.export.files.reload import load_glb, read_extras
from dreamlab.ops.triangles.raycast import render_mesh
from dreamlab.ops.volume.threshold import mean_iou


def test_a_reloaded_export_looks_like_the_field(exported):
    mesh = load_glb(exported.glb, undo_placement=True)
    render = render_mesh(mesh, views(), 96, 96, supersample=1)
    alpha = render_alpha(exported.shape, views(), 96)
    assert mean_iou(render.alpha > 0.5, alpha > 0.5) > 0.97
    seen = render.alpha[..., 0] > 0
    origins, directions = views().rays(96, 96)
    points = (origins + render.depth * directions)[seen]
    expected = octant_color(points)
    clear = points.abs().min(dim=-1).values > 0.02  # away from where colours change
    error = (render.rgb[seen] - expected).abs()[clear]
    assert error.mean() < 0.003 and (error.amax(dim=-1) < 0.02).float().mean() > 0.995


def test_world_axes_keep_the_size_of_the_file(exported):
    mesh = load_glb(exported.glb)
    low, high = mesh.bounds
    assert high[2] - low[2] == pytest.approx(1.0, abs=1e-5) and low[2] == pytest.approx(0, abs=1e-6)
    world = load_glb(exported.glb, undo_placement=True)
    scale = read_extras(exported.glb)["placement"]["scale"]
    assert np.allclose(
        np.ptp(mesh.vertices, axis=0), scale * np.ptp(world.vertices, axis=0), atol=1e-5
    )


def test_the_reloaded_mesh_is_complete(exported):
    mesh = load_glb(exported.glb)
    assert mesh.uv is not None and mesh.normals is not None and mesh.texture is not None
    assert len(mesh.faces) == exported.report.faces
    flat = np.cross(*(mesh.triangles[:, k] - mesh.triangles[:, 0] for k in (1, 2)))
    outward = np.einsum("fc,fc->f", flat, mesh.normals[mesh.faces].mean(axis=1))
    assert (outward > 0).mean() > 0.99
    assert torch.tensor(mesh.texture.copy()).dtype == torch.uint8


def test_extras_are_read(exported):
    assert read_extras(exported.glb)["seed"] == 7


@pytest.mark.parametrize("keep", [0, 10, 30, 400, -200])
def test_a_broken_file_is_refused(exported, tmp_path, keep):
    content = exported.glb.read_bytes()
    (tmp_path / "cut.glb").write_bytes(content[:keep])
    with pytest.raises(InputError, match=r"cut\.glb"):
        load_glb(tmp_path / "cut.glb")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        load_glb(tmp_path / "absent.glb")
