"""Claims about the objects of a layout in files: named, and closed where nothing touches."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from soft_shapes import EXTRAS, SoftShape, ball, octant_color, union
from two_balls import APART, NAMES, PAIR, SIZE, TEXELS, Made, Ready, export, spheres

from dreamlab.core.errors import InputError
from dreamlab.core.layout import Box, Layout
from dreamlab.core.mesh import Mesh
from dreamlab.core.regions import Regions
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.reload import load_glb
from dreamlab.export.files.validate import check_glb
from dreamlab.export.files.writers import read_gltf_json, write_glb
from dreamlab.export.parts import describe, object_names, parts_of
from dreamlab.ops.mesh.clean import remove_degenerate

TOUCHING = union(ball(0.45, (0.0, -0.4, 0.0)), ball(0.45, (0.0, 0.4, 0.0)))


@pytest.fixture(scope="module")
def touching(tmp_path_factory) -> Made:
    mesh = remove_degenerate(SoftShape(TOUCHING, octant_color).surface(200.0, 32))
    return export(mesh, tmp_path_factory.mktemp("touching"))


def test_a_node_and_a_mesh_for_each_object_share_material_and_atlas(apart):
    tree = read_gltf_json(apart.glb)
    assert [node["name"] for node in tree["nodes"]] == NAMES
    assert [mesh["name"] for mesh in tree["meshes"]] == NAMES
    assert [node["mesh"] for node in tree["nodes"]] == [0, 1]
    assert tree["scenes"][tree["scene"]]["nodes"] == [0, 1]
    assert all(set(node) == {"name", "mesh"} for node in tree["nodes"]), "identity transforms"
    assert len(tree["materials"]) == len(tree["images"]) == len(tree["textures"]) == 1
    assert [m["primitives"][0]["material"] for m in tree["meshes"]] == [0, 0]
    assert tree["materials"][0]["name"] == "two-balls"


def test_every_promise_is_kept_and_the_report_says_what_each_is(apart):
    assert apart.report.valid and apart.report.warnings == []
    assert list(apart.report.objects) == NAMES
    assert sum(item.faces for item in apart.report.objects.values()) == apart.report.faces
    assert all(item.watertight for item in apart.report.objects.values())
    plain = json.loads(json.dumps(apart.report.to_plain()))
    assert plain["objects"]["a-red-ball"]["watertight"] is True


def test_other_programs_find_both_objects_where_they_are(apart):
    scene = trimesh.load_scene(apart.glb, process=False)
    assert list(scene.geometry) == NAMES
    red, blue = scene.geometry.values()
    assert red.bounds[1][0] < blue.bounds[0][0], "left of each other: -y of the world is -x there"
    assert red.extents.max() > 1.1 * blue.extents.max()
    for model in (red, blue):
        welded = trimesh.Trimesh(model.vertices, model.faces, process=True)
        welded.merge_vertices(merge_tex=True, merge_norm=True)
        assert welded.is_watertight and welded.volume > 0


def test_a_model_in_parts_is_reloaded_as_the_one_that_it_is(apart, tmp_path):
    joined = export(APART, tmp_path, parts="joined")
    assert joined.report.objects == {} and joined.report.valid
    one, parts = load_glb(joined.glb), load_glb(apart.glb)
    assert len(one.faces) == len(parts.faces)
    np.testing.assert_array_equal(one.texture, parts.texture)

    def corners(mesh: Mesh) -> np.ndarray:
        values = np.concatenate([mesh.vertices, mesh.normals, mesh.uv], axis=1)[mesh.faces]
        flat = values.reshape(len(mesh.faces), -1).astype(np.float32)
        return flat[np.lexsort(flat.T)]

    np.testing.assert_array_equal(corners(one), corners(parts))
    tree = read_gltf_json(joined.glb)
    assert [node["name"] for node in tree["nodes"]] == ["two-balls"]


def test_one_box_or_no_layout_gives_one_node_named_after_the_prompt(apart, tmp_path):
    files = []
    for layout in (None, Layout(PAIR.boxes[:1])):
        made = export(APART, tmp_path, layout=layout, formats=("glb", "obj"))
        assert made.report.objects == {} and made.report.valid
        files.append([(tmp_path / name).read_bytes() for name in ("model.glb", "model.obj")])
    assert files[0] == files[1]
    assert [node["name"] for node in read_gltf_json(made.glb)["nodes"]] == ["two-balls"]


def test_an_obj_has_an_object_for_each_and_the_same_triangles(apart):
    text = (apart.folder / "model.obj").read_text()
    groups = text.split("\no ")[1:]
    assert [group.split("\n", 1)[0] for group in groups] == NAMES
    counts = [group.count("\nf ") for group in groups]
    corners = [int(c.split("/")[0]) for line in text.split("\nf ")[1:] for c in line.split()[:3]]
    assert max(corners) == text.count("\nv "), "vertices are written once"
    assert counts == [item.faces for item in apart.report.objects.values()]
    assert all("usemtl model\n" in group for group in groups)
    scene = trimesh.load_scene(apart.folder / "model.obj", split_objects=True, process=False)
    glb = trimesh.load_scene(apart.glb, process=False)
    for name in NAMES:
        assert np.allclose(scene.geometry[name].bounds, glb.geometry[name].bounds, atol=1e-5)
    ply = trimesh.load_mesh(apart.folder / "model.ply", process=False)
    assert len(ply.faces) == apart.report.faces


def test_objects_that_have_grown_together_are_cut_between_their_boxes(touching):
    report = touching.report
    assert report.valid and report.watertight and list(report.objects) == NAMES
    assert not any(item.watertight for item in report.objects.values()), "open where they were cut"
    scene = trimesh.load_scene(touching.glb, process=False)
    red, blue = (np.asarray(scene.geometry[name].triangles_center) for name in NAMES)
    assert red[:, 0].max() < 1e-3 and blue[:, 0].min() > -1e-3, "the middle is where both are near"
    together = load_glb(touching.glb)
    whole = Mesh(together.vertices, together.faces)
    (part,) = parts_of(whole, None, "x")
    assert describe(whole, [part])["x"].watertight, "nothing is lost at the cut"


def test_parts_are_those_of_the_regions_that_are_rendered():
    """A plate of small triangles, no piece of which is nearly all one box's."""
    turned = Box("a turned box", (0.2, 0.3, 0.0), (0.6, 0.9, 0.4), yaw=40.0)
    layout = Layout((Box("one", (-0.5, -0.3, 0.0), SIZE), turned))
    plate = trimesh.creation.box((1.8, 1.8, 0.1)).subdivide_to_size(0.08)
    mesh = Mesh(plate.vertices.astype(np.float32), plate.faces.astype(np.int64))
    one, two = parts_of(mesh, layout, "x")
    assert len(one.faces) + len(two.faces) == len(mesh.faces)
    assert not set(one.faces) & set(two.faces)
    for index, part in enumerate((one, two)):
        centroids = torch.from_numpy(mesh.triangles[part.faces].mean(axis=1).astype(np.float32))
        share = Regions.of(layout).labels(centroids)[:, index]
        assert (share >= 0.5 - 1e-5).all() and len(part.faces) > 100


def test_what_leans_over_a_little_stays_whole():
    mesh = spheres((0.3, -0.28), (0.3, 0.6))
    layout = PAIR
    centroids = mesh.triangles.mean(axis=1)
    assert (centroids[:320, 1] > 0.0).any(), "some of the first ball is nearer to the second box"
    one, two = parts_of(mesh, layout, "x")
    assert list(one.faces) == list(range(320)) and list(two.faces) == list(range(320, 640))
    assert all(item.watertight for item in describe(mesh, [one, two]).values())


def test_an_object_that_is_not_there_is_warned_of(tmp_path):
    made = export(spheres((0.3, -0.4)), tmp_path)
    assert list(made.report.objects) == ["a-red-ball"] and made.report.valid
    assert made.report.warnings == ["nothing belongs to 'a-blue-ball'"]
    assert [node["name"] for node in read_gltf_json(made.glb)["nodes"]] == ["a-red-ball"]


def test_names_are_safe_and_unique():
    prompts = ("a cat", "A cat!", "a-cat-2", "猫", "ネコ", 'a "dog" / <b>')
    boxes = tuple(Box(prompt, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)) for prompt in prompts)
    names = ["a-cat", "a-cat-2", "a-cat-2-2", "untitled", "untitled-2", "a-dog-b"]
    assert object_names(Layout(boxes)) == names


def test_a_node_that_is_missing_or_misnamed_is_found(apart):
    for names in (NAMES[:1], NAMES[::-1], [*NAMES, "a-third"]):
        checks = check_glb(apart.glb, names=names, height=1.0, texture_size=TEXELS)
        assert {check.name for check in checks if not check.passed}
    checks = check_glb(apart.glb, names=NAMES, height=1.0, texture_size=TEXELS)
    assert all(check.passed for check in checks)


def test_meshes_of_several_materials_are_no_model_of_ours(tmp_path):
    scene = trimesh.Scene()
    for name in NAMES:
        model = trimesh.creation.box()
        material = trimesh.visual.material.PBRMaterial(name=name, baseColorFactor=[9, 9, len(name)])
        model.visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)), material=material)
        scene.add_geometry(model, geom_name=name)
    (tmp_path / "two.glb").write_bytes(scene.export(file_type="glb"))
    with pytest.raises(InputError, match="holds 2 objects, one mesh is expected"):
        load_glb(tmp_path / "two.glb")


def test_maps_of_a_material_and_their_tangents_come_along(tmp_path):
    grey = np.full((TEXELS, TEXELS, 3), 128, np.uint8)
    mesh = replace(Ready(APART).painted, metallic_roughness=grey, normal_map=grey)
    path, parts = tmp_path / "model.glb", parts_of(mesh, PAIR, "x")
    placement = Placement.on_ground(mesh, 1.0)
    write_glb(path, mesh, placement, name="two-balls", extras=EXTRAS, parts=parts)
    tree = read_gltf_json(path)
    assert len(tree["materials"]) == 1 and len(tree["images"]) == len(tree["textures"]) == 3
    for model in tree["meshes"]:
        assert "TANGENT" in model["primitives"][0]["attributes"]
    reloaded = load_glb(path)
    np.testing.assert_array_equal(reloaded.normal_map, grey)
    checks = check_glb(path, names=NAMES, height=1.0, texture_size=TEXELS)
    assert [check for check in checks if not check.passed] == []
