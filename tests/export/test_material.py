"""Claims about the files of objects with a material."""

import io

import numpy as np
import pygltflib
import pytest
import torch
import trimesh
from PIL import Image
from shiny_ball import TEXTURE_SIZE, ShinyBall, export_ball

from dreamlab.export.files.reload import load_glb
from dreamlab.ops.triangles.paint import sample_texture


@pytest.fixture(scope="module")
def gltf(shiny) -> pygltflib.GLTF2:
    loaded = pygltflib.GLTF2.load_binary(shiny[0] / "model.glb")
    assert loaded is not None
    return loaded


def test_the_file_keeps_the_contract_of_all_files(shiny):
    assert shiny[1].valid, [check for check in shiny[1].checks if not check.passed]
    assert shiny[1].files == ["model.glb", "model.obj", "model.mtl", "model.png"]


def test_the_material_takes_its_numbers_from_maps(gltf):
    (material,) = gltf.materials
    factors = material.pbrMetallicRoughness
    assert factors.metallicFactor == factors.roughnessFactor == 1.0
    roles = (
        factors.baseColorTexture.index,
        factors.metallicRoughnessTexture.index,
        material.normalTexture.index,
    )
    assert sorted(roles) == [0, 1, 2]
    names = [gltf.images[gltf.textures[index].source].name for index in roles]
    assert names == ["ball", "ball-metallicRoughness", "ball-normal"]
    assert all(texture.sampler == 0 for texture in gltf.textures)


def test_every_map_is_an_embedded_png(gltf):
    for image in gltf.images:
        view = gltf.bufferViews[image.bufferView]
        data = gltf.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
        picture = Image.open(io.BytesIO(data))
        assert (picture.format, picture.mode, picture.size) == (
            "PNG",
            "RGB",
            (TEXTURE_SIZE, TEXTURE_SIZE),
        )


def test_tangents_are_stored_as_gltf_wants_them(gltf):
    attributes = gltf.meshes[0].primitives[0].attributes
    accessor = gltf.accessors[attributes.TANGENT]
    view = gltf.bufferViews[accessor.bufferView]
    begin = view.byteOffset + (accessor.byteOffset or 0)
    data = gltf.binary_blob()[begin : begin + accessor.count * 16]
    tangents = np.frombuffer(data, "<f4").reshape(-1, 4)
    assert accessor.type == "VEC4" and accessor.componentType == 5126
    np.testing.assert_allclose(np.linalg.norm(tangents[:, :3], axis=1), 1, atol=1e-4)
    assert np.isin(tangents[:, 3], [-1, 1]).all()


def test_the_values_survive_being_read_by_others(shiny):
    scene = trimesh.load_scene(shiny[0] / "model.glb", process=False)
    material = scene.geometry["ball"].visual.material
    assert material.metallicFactor == material.roughnessFactor == 1.0
    picture = np.asarray(material.metallicRoughnessTexture.convert("RGB"))
    mesh = load_glb(shiny[0] / "model.glb", undo_placement=True)
    assert mesh.metallic_roughness is not None and mesh.normal_map is not None
    assert np.array_equal(picture, mesh.metallic_roughness)
    middle = mesh.triangles.mean(axis=1)
    assert mesh.uv is not None
    uv = torch.tensor(mesh.uv[mesh.faces].mean(axis=1))
    found = sample_texture(torch.tensor(picture.copy()), uv).float()
    expected = ShinyBall().material(torch.tensor(middle))
    assert (found[:, :1] == 1).all()
    torch.testing.assert_close(found[:, 1:2], expected.roughness, atol=0.03, rtol=0)
    torch.testing.assert_close(found[:, 2:], expected.metallic, atol=0.03, rtol=0)
    relief = sample_texture(torch.tensor(mesh.normal_map.copy()), uv) * 2 - 1
    assert (relief[:, 2] > 0).all() and relief[:, :2].abs().max() > 0.2


def test_other_formats_keep_the_base_colour_alone(shiny):
    lines = (shiny[0] / "model.mtl").read_text().splitlines()
    assert "Pm 0.0" in lines and not any("map_P" in line for line in lines)


def test_a_smooth_material_has_neither_normal_map_nor_tangents(tmp_path):
    report = export_ball(tmp_path, ShinyBall(bumps=False))
    assert report.valid
    gltf = pygltflib.GLTF2.load_binary(tmp_path / "model.glb")
    assert gltf is not None and gltf.materials[0].normalTexture is None
    assert gltf.meshes[0].primitives[0].attributes.TANGENT is None and len(gltf.images) == 2
