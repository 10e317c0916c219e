"""Claims about the extension inside Blender, each in a Blender of its own, against a double."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import trimesh
from api_double import ApiDouble
from blender_child import need_blender, run_blender
from PIL import Image

from dreamlab.core.frames import to_world_axes
from dreamlab.core.mesh import Mesh
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.writers import write_glb
from dreamlab.export.parts import Part
from dreamlab.jobs.extension import write_extension
from dreamlab.ops.mesh.clean import vertex_normals

pytestmark = pytest.mark.blender

SCRIPT = Path(__file__).with_name("in_blender.py")
PROMPT_OF_A_RUN = "a red mushroom"


def painted(mesh: Mesh, path: Path, parts: Sequence[Part] | None = None) -> bytes:
    """Write a mesh as the export does: 1 m tall, in plain red."""
    red = Mesh(
        mesh.vertices,
        mesh.faces,
        normals=vertex_normals(mesh).astype(np.float32),
        uv=np.full((len(mesh.vertices), 2), 0.5),
        texture=np.full((4, 4, 3), (200, 30, 30), np.uint8),
    )
    placement = Placement.on_ground(mesh, 1.0)
    write_glb(path, red, placement, name="a-red-thing", extras={}, parts=parts)
    return path.read_bytes()


def torso() -> Mesh:
    """A box twice as tall as wide with a nose on +x."""
    body = trimesh.creation.box((0.4, 0.5, 1.0))
    nose = trimesh.creation.box(
        (0.2, 0.1, 0.1), trimesh.transformations.translation_matrix((0.3, 0, 0.2))
    )
    model = trimesh.util.concatenate([body, nose])
    return Mesh(model.vertices.astype(np.float32), model.faces.astype(np.int64))


def read_upload(content: bytes, path: Path) -> Mesh:
    path.write_bytes(content)
    model = trimesh.load_scene(path).to_mesh()
    mesh = Mesh(model.vertices.astype(np.float32), model.faces.astype(np.int64))
    return to_world_axes(mesh, "y up")


def made_of(upload: bytes | None, folder: Path) -> Mesh:
    return torso() if upload is None else read_upload(upload, folder / "upload.glb")


@pytest.fixture
def play(tmp_path):
    """Play a scenario of in_blender.py; return its report and the server."""
    need_blender()
    archive = write_extension(tmp_path / "zip")

    def act(scenario: str, glb=None):
        glb = glb or painted(torso(), tmp_path / "model.glb")
        picture = BytesIO()
        Image.new("RGB", (8, 8), "red").save(picture, "WEBP")
        home = {"BLENDER_USER_RESOURCES": str(tmp_path / "home")}
        with ApiDouble(glb, picture.getvalue()) as server:
            arguments = (scenario, str(archive), server.address)
            return run_blender(SCRIPT, *arguments, environment=home), server

    return act


def test_the_zip_installs_and_goes_without_a_trace_twice(play):
    rounds, _ = play("come_and_go")
    assert len(rounds) == 2 and rounds[0] == rounds[1]
    there, gone = rounds[0]["there"], rounds[0]["gone"]
    assert len(there["classes"]) > 10 and there["properties"] == ["Scene", "WindowManager"]
    assert there["timer"] and there["threads"] == ["dreamlab"]
    assert gone == {"classes": [], "properties": [], "timer": False, "threads": []}


def test_a_prompt_becomes_a_model_at_the_cursor(play):
    report, server = play("generate")
    assert server.jobs["run-0"]["prompt"] == PROMPT_OF_A_RUN
    for model in report["objects"]:
        assert model["location"] == [1.0, 2.0, 3.0] and model["scale"] == [1.0, 1.0, 1.0]
        assert np.allclose(model["dimensions"], (0.5, 0.6, 1.0), atol=1e-5), "upright, 1 m tall"
        assert model["front"][1] < -0.29, "the nose is on -y"
        low, high = model["bounds"]
        assert low[2] == pytest.approx(3.0) and high[2] == pytest.approx(4.0)
        assert model["is_smooth"] and model["is_packed"] and model["metallic"] == 0
        assert model["origin"] == {
            "dreamlab_prompt": PROMPT_OF_A_RUN,
            "dreamlab_negative_prompt": "",
            "dreamlab_recipe": "toybox",
            "dreamlab_quality": "draft",
            "dreamlab_seed": 7,
            "dreamlab_run": "run-0",
        }
    assert [model["is_selected"] for model in report["objects"]] == [False, True]
    assert "MATERIAL" in report["shading"]
    assert report["history"] == [["run-0", PROMPT_OF_A_RUN, "done"]]
    assert report["recipes"] == ["toybox", "toybox-texture"]
    assert report["qualities"] == ["draft", "standard"]


def test_a_refined_mesh_takes_the_place_of_the_old_one(play, tmp_path):
    def refine(upload: bytes) -> bytes:
        return painted(read_upload(upload, tmp_path / "upload.glb"), tmp_path / "refined.glb")

    report, server = play("refine", refine)
    sent = read_upload(server.models[0], tmp_path / "sent.glb")
    extent = np.ptp(sent.vertices, axis=0)
    assert np.allclose(extent, (2, 4, 2), atol=1e-5), "modifiers applied, transforms not"
    assert server.jobs["run-0"]["recipe"] == "toybox-texture"
    assert server.jobs["run-0"]["model"] == "model-1"
    assert report["after_export"] == {"objects": ["Empty", "crate"], "meshes": 1}
    before, after = report["before"], report["result"]
    assert np.allclose(after["matrix"], before["matrix"], atol=1e-6)
    assert np.allclose(after["bounds"], before["bounds"], atol=1e-4)
    assert after["scale"] == [0.5, 1.5, 2.0] and after["parent"] == "Empty"
    assert np.allclose(after["rotation"], (0.3, -0.5, 1.1)) and after["rotation_mode"] == "XYZ"
    assert report["cube"]["is_hidden"] and not after["is_hidden"] and report["notes"] == 0


def test_the_objects_of_a_layout_come_together_and_stay_together(play, tmp_path):
    def cut(upload: bytes | None) -> bytes:
        mesh = made_of(upload, tmp_path)
        is_high = mesh.triangles[..., 2].mean(axis=1) > mesh.vertices[:, 2].mean()
        parts = [Part("a-cat", np.nonzero(is_high)[0]), Part("a-dog", np.nonzero(~is_high)[0])]
        return painted(mesh, tmp_path / "parts.glb", parts)

    def bounds(objects: list[dict]) -> np.ndarray:
        low, high = zip(*(item["bounds"] for item in objects), strict=True)
        return np.array([np.min(low, axis=0), np.max(high, axis=0)])

    report, _ = play("objects", cut)
    for objects in (report["generated"], report["refined"]):
        assert [item["name"].split(".")[0] for item in objects] == ["a-cat", "a-dog"]
        assert all(item["is_selected"] and item["origin"]["dreamlab_run"] for item in objects)
    assert all(item["location"] == [1.0, 2.0, 3.0] for item in report["generated"])
    low, high = bounds(report["generated"])
    assert (low[2], high[2]) == pytest.approx((3.0, 4.0), abs=1e-5)
    for item in report["refined"]:
        assert np.allclose(item["matrix"], report["before"]["matrix"], atol=1e-6)
    assert np.allclose(bounds(report["refined"]), report["before"]["bounds"], atol=1e-4)


def test_several_meshes_become_one_even_if_blender_was_closed_meanwhile(play, tmp_path):
    def refine(upload: bytes) -> bytes:
        return painted(read_upload(upload, tmp_path / "upload.glb"), tmp_path / "refined.glb")

    report, _ = play("refine_several", refine)
    assert np.allclose(report["result"]["bounds"], [[-0.5, -0.5, 0], [0.5, 0.5, 2]], atol=1e-5)
    assert report["hidden"] == ["Cube", "Sphere"]


def test_a_model_waits_until_the_user_has_left_edit_mode(play):
    report, _ = play("editing")
    assert report["waiting"] == ["EDIT_MESH", 1]


def test_an_import_can_be_undone_and_undo_does_not_lose_a_refinement(play, tmp_path):
    def model(upload: bytes | None) -> bytes:
        return painted(made_of(upload, tmp_path), tmp_path / "made.glb")

    report, _ = play("undoing", model)
    assert report["counts"] == [1, 0, 1]
    assert report["runs"] == [""], "the undo took the name of the run away"
    assert report["is_hidden"]
    assert np.allclose(report["bounds"], [[-1, -1, -1], [1, 1, 1]], atol=1e-5)


def test_what_cannot_be_done_is_said_with_its_fix(play):
    report, server = play("refusals")
    assert "prompt is empty" in report["empty"] and "Select a mesh" in report["nothing selected"]
    assert "thickness" in report["flat"] and "http://127.0.0.1:7860" in report["address"]
    assert "Allow Online Access" in report["offline"]
    assert report["recipe"] == ["There is no recipe 'tyobox'.", "Did you mean toybox?"]
    assert report["dismissed"] and report["notes"] == 0
    assert not server.jobs


def test_the_panel_shows_what_is_going_on(play):
    report, _ = play("draw")
    empty, busy = report["empty"], report["busy"]
    assert "DREAMLAB_PT_runs" not in empty and "Generate" in empty["DREAMLAB_PT_form"]
    assert {"address", "user", "token"} <= set(empty["preferences"])
    server = " ".join(busy["DREAMLAB_PT_server"])
    assert "Connected to dreamlab 1, 2 recipes" in server
    assert not any("Connected" in line for line in report["retyped"]["DREAMLAB_PT_server"])
    assert "It went wrong. Do this." in server and "token" in server
    runs = busy["DREAMLAB_PT_runs"]
    assert "mesh 25%" in runs and "About 2 min 10 s left" in runs and "picture" in runs
    assert min(report["picture"]) > 0
    assert "Stop and Keep" in runs and "Cancel" in runs
    assert "No answer. Trying again." in " ".join(runs)
    assert report["line"] == [PROMPT_OF_A_RUN, "running"]
    assert report["end"] == "End the run now and import nothing"
