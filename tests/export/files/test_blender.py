"""Claims about the formats that Blender writes."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blender_child import need_blender, run_blender
from soft_shapes import EXTRAS

from dreamlab.core.errors import InputError, MissingError
from dreamlab.export.files import blender
from dreamlab.export.pipeline import export_model

REPORT = Path(__file__).parents[2] / "support" / "blender_report.py"


@pytest.fixture
def without_bpy(tmp_path, monkeypatch) -> None:
    """Name an interpreter that has no bpy."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv(blender.VARIABLE, str(python))


def test_without_blender_its_formats_are_refused_with_how_to_get_it(without_bpy, tmp_path):
    with pytest.raises(MissingError, match="blend and fbx") as caught:
        blender.check_formats(["glb", "blend", "fbx"])
    assert "pip install bpy" in caught.value.fix and blender.VARIABLE in caught.value.fix
    with pytest.raises(MissingError):
        blender.convert(tmp_path / "model.glb", [tmp_path / "model.usdz"])


def test_the_other_formats_do_not_ask_for_blender(without_bpy):
    blender.check_formats(["glb", "obj", "ply", "stl"])


def test_an_interpreter_that_is_not_there_counts_as_none(monkeypatch, tmp_path):
    monkeypatch.setenv(blender.VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(MissingError):
        blender.check_formats(["usdz"])


@pytest.mark.blender
def test_what_blender_cannot_read_is_an_error_that_quotes_it(tmp_path):
    need_blender()
    broken = tmp_path / "model.glb"
    broken.write_bytes(b"glTF and nothing else")
    with pytest.raises(InputError, match="Blender wrote no model"):
        blender.convert(broken, [tmp_path / "model.fbx"])
    assert [path.name for path in tmp_path.iterdir()] == ["model.glb"]


@pytest.fixture(scope="module")
def converted(exported, tmp_path_factory) -> Path:
    """An export to Blender's formats alone."""
    need_blender()
    folder = tmp_path_factory.mktemp("converted")
    config = replace(exported.config, formats=("blend", "fbx", "usdz"))
    report = export_model(
        exported.shape, exported.reference, config, folder, name="A red statue!", extras=EXTRAS
    )
    assert report.files == ["model.blend", "model.fbx", "model.usdz"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(report.files)
    return folder


@pytest.mark.blender
@pytest.mark.parametrize("kind", ["blend", "fbx", "usdz"])
def test_the_same_model_arrives_from_every_format(converted, exported, kind):
    (glb,) = run_blender(REPORT, str(exported.glb))
    # a folder where no picture lies beside the file: it has to be inside
    objects = run_blender(REPORT, str(converted / f"model.{kind}"))
    (model,) = [item for item in objects if item["type"] == "MESH"]  # USD has a scope of materials
    assert np.allclose(model["low"], glb["low"], atol=1e-4)
    assert np.allclose(model["high"], glb["high"], atol=1e-4)
    assert np.allclose(model["front"], glb["front"], atol=1e-4), "it faces the same way"
    assert model["faces"] == glb["faces"] and model["smooth"] and model["uv_layers"] == 1
    (material,) = model["materials"]
    assert material["base_color_from"] == "ShaderNodeTexImage"
    assert material["image_size"] == [512, 512] and material["color_space"] == "sRGB"
    assert material["mean_color"] == pytest.approx(glb["materials"][0]["mean_color"], abs=2e-3)
    assert material["metallic"] <= 0.05 and 0.3 <= material["roughness"] <= 1.0


@pytest.mark.blender
def test_objects_of_a_layout_keep_their_names(apart, tmp_path):
    need_blender()
    targets = [tmp_path / f"model.{kind}" for kind in ("blend", "fbx", "usdz")]
    blender.convert(apart.glb, targets)
    expected = {name: item.faces for name, item in apart.report.objects.items()}
    for target in targets:
        objects = [item for item in run_blender(REPORT, str(target)) if item["type"] == "MESH"]
        # names in USD are identifiers
        found = {item["name"].replace("_", "-"): item["faces"] for item in objects}
        assert found == expected
        assert all(len(item["materials"]) == 1 for item in objects)
