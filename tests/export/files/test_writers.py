"""Every line of the Blender contract as a claim on the written files, read back by others."""

import io

import numpy as np
import pygltflib
import pytest
import trimesh
from PIL import Image

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.reload import load_glb
from dreamlab.export.files.writers import read_gltf_json, write_glb, write_ply

NAME = "a-red-statue"


@pytest.fixture(scope="module")
def gltf(exported) -> pygltflib.GLTF2:
    loaded = pygltflib.GLTF2.load_binary(exported.glb)
    assert loaded is not None
    return loaded


@pytest.fixture(scope="module")
def model(exported) -> trimesh.Trimesh:
    scene = trimesh.load_scene(exported.glb, process=False)
    assert list(scene.geometry) == [NAME]
    return scene.geometry[NAME]


def attribute(gltf: pygltflib.GLTF2, name: str) -> np.ndarray:
    accessor = gltf.accessors[getattr(gltf.meshes[0].primitives[0].attributes, name)]
    view = gltf.bufferViews[accessor.bufferView]
    begin = view.byteOffset + (accessor.byteOffset or 0)
    columns = {"VEC2": 2, "VEC3": 3}[accessor.type]
    data = gltf.binary_blob()[begin : begin + accessor.count * columns * 4]
    return np.frombuffer(data, "<f4").reshape(-1, columns)


def test_there_is_one_mesh_in_one_node_named_after_the_prompt(gltf):
    assert [mesh.name for mesh in gltf.meshes] == [NAME]
    assert [node.name for node in gltf.nodes] == [NAME]
    assert gltf.scenes[gltf.scene].nodes == [0]
    assert len(gltf.meshes[0].primitives) == 1


def test_the_transform_is_the_identity(gltf):
    node = gltf.nodes[0]
    assert node.matrix is None and node.rotation is None
    assert node.scale is None and node.translation is None


def test_the_model_is_one_metre_tall_on_the_ground_and_centred(gltf):
    low, high = attribute(gltf, "POSITION").min(axis=0), attribute(gltf, "POSITION").max(axis=0)
    assert high[1] - low[1] == pytest.approx(1.0, abs=1e-5)
    assert low[1] == pytest.approx(0.0, abs=1e-6)
    assert np.allclose((low + high)[[0, 2]], 0, atol=1e-6)


def test_the_front_faces_plus_z_and_the_left_side_plus_x(gltf):
    """The statue has its nose on +x and its ear on +y of the world."""
    position = attribute(gltf, "POSITION")
    low, high = position.min(axis=0), position.max(axis=0)
    middle = position[np.abs(position[:, 1] - 0.5 * high[1]) < 0.2]
    nose = position[position[:, 2] > high[2] - 0.02 * (high[2] - low[2])]
    ear = position[position[:, 0] > high[0] - 0.02 * (high[0] - low[0])]
    assert len(middle) and np.ptp(nose[:, 0]) < 0.25 * (high[0] - low[0])
    assert np.ptp(ear[:, 2]) < 0.25 * (high[2] - low[2])
    assert high[1] == position[:, 1].max() > 0.99  # the head is up


def test_the_material_is_neither_metallic_nor_glossy_and_has_two_sides(gltf):
    assert len(gltf.materials) == 1
    material = gltf.materials[0]
    factors = material.pbrMetallicRoughness
    assert factors.metallicFactor == 0.0
    assert factors.roughnessFactor == 0.9
    assert material.doubleSided is True
    assert material.alphaMode in (None, "OPAQUE")


def test_the_texture_is_an_embedded_png_of_the_size_asked_for(gltf, exported):
    assert len(gltf.images) == len(gltf.textures) == 1
    assert gltf.images[0].mimeType == "image/png" and gltf.images[0].uri is None
    view = gltf.bufferViews[gltf.images[0].bufferView]
    data = gltf.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG" and image.mode == "RGB"
    assert image.size == (exported.config.texture_size,) * 2


def test_the_texture_is_filtered_with_mip_maps_and_clamped(gltf):
    sampler = gltf.samplers[gltf.textures[0].sampler]
    assert (sampler.magFilter, sampler.minFilter) == (9729, 9987)
    assert (sampler.wrapS, sampler.wrapT) == (33071, 33071)


def test_there_are_no_vertex_colours_that_could_tint_the_texture(gltf):
    assert gltf.meshes[0].primitives[0].attributes.COLOR_0 is None


def test_normals_are_unit_smooth_and_outward(gltf, model):
    normals = attribute(gltf, "NORMAL")
    assert np.abs(np.linalg.norm(normals, axis=1) - 1).max() < 1e-4
    flat = np.asarray(model.face_normals)
    corner = normals[np.asarray(model.faces)]
    alignment = np.einsum("fkc,fc->fk", corner, flat)
    assert alignment.mean() > 0.98 and alignment.min() < 0.9999  # outward, and not facets


def test_normals_agree_across_seams(gltf):
    position, normals = attribute(gltf, "POSITION"), attribute(gltf, "NORMAL")
    _, inverse = np.unique(position, axis=0, return_inverse=True)
    assert inverse.max() + 1 < len(position)
    first = np.zeros((inverse.max() + 1, 3), np.float32)
    first[inverse] = normals
    assert np.array_equal(first[inverse], normals)


def test_uv_lies_inside_the_unit_square(gltf):
    uv = attribute(gltf, "TEXCOORD_0")
    assert uv.min() >= 0 and uv.max() <= 1


def test_positions_are_finite_and_no_triangle_is_without_area(gltf, model):
    assert np.isfinite(attribute(gltf, "POSITION")).all()
    assert model.area_faces.min() > 1e-9


def test_there_are_no_floaters(model):
    welded = trimesh.Trimesh(model.vertices, model.faces, process=True)
    welded.merge_vertices(merge_tex=True, merge_norm=True)
    parts = welded.split(only_watertight=False)
    assert min(part.area for part in parts) > 0.01 * welded.area


def test_provenance_is_in_the_extras(gltf, exported):
    extras = gltf.asset.extras
    assert extras["prompt"] == "A red statue!" and extras["seed"] == 7
    assert extras["config_hash"] == "0123abcd"
    assert "licence" in extras and extras["generator"].startswith("dreamlab ")
    assert extras["placement"]["scale"] > 0
    assert gltf.asset.generator == extras["generator"]


def test_an_own_licence_note_is_kept(exported, tmp_path):
    mesh = textured_quad()
    write_glb(
        tmp_path / "m.glb",
        mesh,
        Placement.on_ground(mesh, 1.0),
        name="quad",
        extras={"licence": "CC0"},
    )
    extras = read_gltf_json(tmp_path / "m.glb")["asset"]["extras"]
    assert extras["licence"] == "CC0"


def textured_quad() -> Mesh:
    vertices = np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]], np.float32)
    return Mesh(
        vertices,
        np.array([[0, 1, 2], [0, 2, 3]]),
        normals=np.tile([1.0, 0, 0], (4, 1)),
        uv=np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]),
        texture=np.zeros((4, 4, 3), np.uint8),
    )


def extents_in_blender(model: trimesh.Trimesh, y_up: bool) -> np.ndarray:
    x, y, z = np.ptp(model.vertices, axis=0)
    return np.array([x, z, y]) if y_up else np.array([x, y, z])


def bounds_in_blender(model: trimesh.Trimesh, y_up: bool) -> np.ndarray:
    vertices = np.asarray(model.vertices)
    if y_up:
        vertices = np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], axis=1)
    return np.stack([vertices.min(axis=0), vertices.max(axis=0)])


@pytest.mark.parametrize(("kind", "y_up"), [("obj", True), ("ply", False), ("stl", False)])
def test_all_formats_stand_alike_once_blender_has_read_them(exported, model, kind, y_up):
    loaded = trimesh.load_mesh(exported.folder / f"model.{kind}", process=False)
    expected = bounds_in_blender(model, True)
    assert np.allclose(bounds_in_blender(loaded, y_up), expected, atol=1e-5)
    assert len(loaded.faces) == exported.report.faces


def test_obj_comes_with_its_material_and_texture(exported):
    names = {path.name for path in exported.folder.iterdir()}
    assert {"model.obj", "model.mtl", "model.png"} <= names
    assert set(exported.report.files) == names
    text = (exported.folder / "model.obj").read_text()
    assert "mtllib model.mtl" in text and "usemtl model" in text and f"o {NAME}" in text
    assert "map_Kd model.png" in (exported.folder / "model.mtl").read_text()
    loaded = trimesh.load_mesh(exported.folder / "model.obj", process=False)
    assert loaded.visual.material.image.size == (512, 512)


def test_the_material_of_the_obj_shows_the_texture_as_it_is(exported):
    """Viewers multiply the texture by Kd and add a highlight of colour Ks."""
    lines = (exported.folder / "model.mtl").read_text().splitlines()
    values = dict(line.split(maxsplit=1) for line in lines if not line.startswith("#"))
    assert values["newmtl"] == "model" and values["map_Kd"] == "model.png"
    assert values["Kd"] == "1 1 1" and values["Ks"] == "0 0 0"
    assert float(values["Pm"]) <= 0.05 and 0.3 <= float(values["Pr"]) <= 1
    picture = np.asarray(Image.open(exported.folder / "model.png"))
    loaded = load_glb(exported.glb)
    assert np.array_equal(picture, loaded.texture)


def test_obj_has_smooth_normals_and_the_uv_of_the_glb(exported, model):
    text = (exported.folder / "model.obj").read_text()
    assert text.count("\nvn ") == text.count("\nv ") == len(model.vertices)
    uv = np.array([line.split()[1:] for line in text.splitlines() if line.startswith("vt ")])
    assert np.allclose(uv.astype(float), model.visual.uv, atol=1e-5)


def test_ply_colours_are_srgb_bytes(exported):
    loaded = trimesh.load_mesh(exported.folder / "model.ply", process=False)
    bright, dark = round(0.9 * 255), round(0.2 * 255)
    colors = loaded.visual.vertex_colors[:, :3]
    assert np.isin(colors, [bright, dark]).all()
    assert len(np.unique(colors, axis=0)) == 8


def test_stl_is_closed(exported):
    loaded = trimesh.load_mesh(exported.folder / "model.stl")
    assert loaded.is_watertight and loaded.volume > 0


def test_nothing_unfinished_is_left_in_the_folder(exported):
    assert not [path for path in exported.folder.iterdir() if ".part" in path.name]


def test_a_mesh_without_texture_or_colours_is_refused(tmp_path):
    mesh = Mesh(textured_quad().vertices, textured_quad().faces)
    placement = Placement.on_ground(mesh, 1.0)
    with pytest.raises(InputError, match="texture"):
        write_glb(tmp_path / "m.glb", mesh, placement, name="m", extras={})
    with pytest.raises(InputError, match="vertex colours"):
        write_ply(tmp_path / "m.ply", mesh, placement)
    assert not list(tmp_path.iterdir())
