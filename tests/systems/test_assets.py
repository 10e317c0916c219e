"""Claims about models from files: shape, axes, size and colours."""

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

from dreamlab.core.errors import InputError
from dreamlab.core.frames import ROTATION
from dreamlab.systems.assets import SHARE, load_asset


def block(color, size=(1.0, 2.0, 4.0), at=(0.0, 0.0, 0.0)):
    model = trimesh.creation.box(size)
    model.apply_translation(at)
    model.visual.vertex_colors = color
    return model


@pytest.mark.parametrize(("suffix", "frame"), [("glb", "y up"), ("obj", "y up"), ("ply", "z up")])
def test_a_model_comes_upright_into_the_middle_and_fills_the_views(tmp_path, suffix, frame):
    """The longest axis of the box is the world's z, the shortest its x."""
    rotation = ROTATION[frame]
    model = block([200, 100, 50, 255])
    model.vertices = model.vertices @ rotation.T + [5.0, 6.0, 7.0]
    path = tmp_path / f"box.{suffix}"
    model.export(path)
    mesh = load_asset(path, 0.9).mesh
    low, high = mesh.bounds
    np.testing.assert_allclose(low, -high, atol=1e-6)
    extent = high - low
    np.testing.assert_allclose(extent / extent[2], [0.25, 0.5, 1.0], atol=1e-6)
    assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(SHARE * 0.9, rel=1e-6)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).volume > 0


def test_colours_come_from_the_nearest_point_of_the_nearest_part(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(block([255, 0, 0, 255], (1, 1, 1), (0, 0, 0)))
    scene.add_geometry(block([0, 0, 255, 255], (1, 1, 1), (0, 3, 0)))
    scene.export(tmp_path / "two.glb")
    asset = load_asset(tmp_path / "two.glb", 1.0)
    assert len(asset.parts) == 2 and len(asset.mesh.faces) == 24
    colors = asset.color_at(torch.tensor([[0.0, 0.0, -0.9], [0.0, 0.0, 0.9]]))
    torch.testing.assert_close(colors, torch.tensor([[1.0, 0, 0], [0, 0, 1]]))


def test_textures_are_looked_up_and_linear_colours_of_materials_become_srgb(tmp_path):
    half = trimesh.creation.box((1, 1, 1))
    picture = Image.new("RGB", (4, 4), (10, 200, 30))
    uv = np.full((len(half.vertices), 2), 0.5)
    half.visual = TextureVisuals(uv=uv, material=PBRMaterial(baseColorTexture=picture))
    half.export(tmp_path / "textured.glb")
    point = torch.tensor([[0.9, 0.0, 0.0]])
    found = load_asset(tmp_path / "textured.glb", 1.0).color_at(point) * 255
    torch.testing.assert_close(found, torch.tensor([[10.0, 200.0, 30.0]]), atol=0.5, rtol=0)
    plain = trimesh.creation.box((1, 1, 1))
    material = PBRMaterial(baseColorFactor=[0.2140, 1.0, 0.0, 1.0])
    plain.visual = TextureVisuals(uv=uv, material=material)
    plain.export(tmp_path / "plain.glb")
    found = load_asset(tmp_path / "plain.glb", 1.0).color_at(point)
    torch.testing.assert_close(found, torch.tensor([[0.5, 1.0, 0.0]]), atol=0.01, rtol=0)


def test_a_model_without_paint_is_grey(tmp_path):
    trimesh.creation.icosphere(1).export(tmp_path / "ball.stl")
    colors = load_asset(tmp_path / "ball.stl", 1.0).color_at(torch.rand(5, 3))
    assert (colors == colors[0, 0]).all()


@pytest.mark.parametrize("suffix", ["glb", "stl", "ply"])
def test_a_model_that_is_inside_out_is_refused_but_a_hollow_one_is_not(tmp_path, suffix):
    outer, inner = (trimesh.creation.icosphere(2, radius) for radius in (1.0, 0.8))
    inner.invert()
    path = tmp_path / f"model.{suffix}"
    inner.export(path)
    with pytest.raises(InputError, match="face inwards"):
        load_asset(path, 1.0)
    trimesh.Scene([outer, inner]).to_mesh().export(path)
    assert len(load_asset(path, 1.0).mesh.faces) == 640
    sheet = trimesh.Trimesh(inner.vertices, inner.faces[:40])
    sheet.export(path)  # open: it has no outside
    assert len(load_asset(path, 1.0).mesh.faces) == 40


def test_a_model_that_its_scene_mirrors_faces_outwards(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.icosphere(1), transform=np.diag([-1.0, 1, 1, 1]))
    scene.export(tmp_path / "mirrored.glb")
    mesh = load_asset(tmp_path / "mirrored.glb", 1.0).mesh
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).volume > 0


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("x.fbx", b"", "no model that can be read"),
        ("x.glb", b"nothing", "cannot be read"),
        ("x.obj", b"v 0 0 0\n", "no triangles"),
    ],
)
def test_other_files_are_refused_with_a_reason(tmp_path, name, content, word):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=word):
        load_asset(tmp_path / name, 1.0)
