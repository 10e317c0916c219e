"""Blender judges the export: what a user finds after File > Import."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from blender_child import need_blender, run_blender
from painted_ellipsoid import PARTS, RADII
from two_balls import NAMES

SCRIPT = Path(__file__).parent.parent / "support" / "blender_report.py"

pytestmark = pytest.mark.blender


@pytest.fixture(scope="module")
def arrived(exported):
    need_blender()

    @cache
    def read(kind: str) -> list[dict]:
        return run_blender(SCRIPT, str(exported.folder / f"model.{kind}"))

    return read


@pytest.fixture
def model(arrived) -> dict:
    return arrived("glb")[0]


def test_exactly_one_mesh_named_after_the_prompt_arrives(arrived):
    objects = arrived("glb")
    assert [(item["name"], item["type"]) for item in objects] == [("a-red-statue", "MESH")]


def test_its_transform_is_the_identity(model):
    assert np.allclose(model["matrix"], np.eye(4), atol=1e-7) and not model["parent"]


def test_it_stands_upright_on_the_ground_one_metre_tall(model):
    assert model["low"][2] == pytest.approx(0, abs=1e-5)
    assert model["high"][2] == pytest.approx(1.0, rel=0.01)
    assert np.allclose(np.add(model["low"], model["high"])[:2], 0, atol=1e-5)


def test_it_faces_minus_y_with_its_left_on_plus_x(model):
    """The nose is the foremost point; it is in the middle sideways, the ear is on +x."""
    assert abs(model["front"][0] - (model["low"][0] + model["high"][0]) / 2) < 0.12
    assert model["low"][1] == pytest.approx(model["front"][1])


def test_its_material_looks_as_painted(model):
    (material,) = model["materials"]
    assert material["metallic"] <= 0.05 and material["metallic_linked"] is None
    assert 0.3 <= material["roughness"] <= 1.0
    assert material["base_color_from"] == "ShaderNodeTexImage"
    assert material["image_packed"] and material["image_size"] == [512, 512]
    assert material["color_space"] == "sRGB"
    assert not material["backface_culling"]


def test_it_is_shaded_smoothly(model):
    assert model["smooth"] and model["custom_normals"] and model["uv_layers"] == 1


@pytest.mark.parametrize("kind", ["obj", "ply", "stl"])
def test_the_other_formats_arrive_in_the_same_place(arrived, model, kind):
    (other,) = arrived(kind)
    assert np.allclose(other["low"], model["low"], atol=1e-4)
    assert np.allclose(other["high"], model["high"], atol=1e-4)
    assert other["faces"] == model["faces"]


@pytest.mark.parametrize("name", PARTS)
def test_the_object_of_every_representation_arrives_as_it_should(name, of_kind):
    need_blender()
    made = of_kind(name)
    (model,) = run_blender(SCRIPT, str(made.glb))
    assert (model["name"], model["type"], model["parent"]) == ("x", "MESH", False)
    assert np.allclose(model["matrix"], np.eye(4), atol=1e-7)
    assert model["faces"] == made.report.faces and model["uv_layers"] == 1
    assert model["custom_normals"], "a triangle that lies flat may count as flat, it looks the same"
    extent = np.subtract(model["high"], model["low"])
    assert model["low"][2] == pytest.approx(0, abs=1e-5) and extent[2] == pytest.approx(1, rel=0.01)
    if name != "hashgrid":
        depth, width, height = RADII
        assert extent[:2] == pytest.approx([width / height, depth / height], rel=0.08)
    (material,) = model["materials"]
    assert material["base_color_from"] == "ShaderNodeTexImage" and material["image_packed"]
    assert material["metallic"] <= 0.05 and 0.3 <= material["roughness"] <= 1.0


def test_the_objects_of_a_layout_arrive_with_their_names_in_one_material(apart):
    need_blender()
    glb, obj = (run_blender(SCRIPT, str(apart.folder / f"model.{kind}")) for kind in ("glb", "obj"))
    for objects in (glb, obj):
        assert {item["name"]: item["faces"] for item in objects} == {
            name: item.faces for name, item in apart.report.objects.items()
        }
        assert all(item["type"] == "MESH" and not item["parent"] for item in objects)
        assert all(len(item["materials"]) == 1 and item["smooth"] for item in objects)
        red, blue = (next(item for item in objects if item["name"] == name) for name in NAMES)
        assert red["high"][0] < blue["low"][0], "the first is on the left of who looks along +y"
        assert red["low"][2] == pytest.approx(0, abs=1e-4)
    assert all(np.allclose(item["matrix"], np.eye(4), atol=1e-7) for item in glb)
