import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamlab.export.files.placement import Placement
from dreamlab.export.files.reload import load_glb, read_extras
from dreamlab.export.files.validate import check_glb
from dreamlab.export.files.writers import read_gltf_json, write_glb

NAME = "a-red-statue"


def failures(path: Path, name: str = NAME, height: float = 1.0, size: int = 512) -> set[str]:
    checks = check_glb(path, names=[name], height=height, texture_size=size)
    return {check.name for check in checks if not check.passed}


def edit(source: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite the JSON chunk of a GLB."""
    content, tree = source.read_bytes(), read_gltf_json(source)
    length = int.from_bytes(content[12:16], "little")
    change(tree)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + length :]
    total = (20 + len(text) + len(rest)).to_bytes(4, "little")
    head = content[:8] + total + len(text).to_bytes(4, "little") + b"JSON"
    target.write_bytes(head + text + rest)


def test_a_good_file_passes_every_check(exported):
    checks = check_glb(exported.glb, names=[NAME], height=1.0, texture_size=512)
    assert [check for check in checks if not check.passed] == []
    assert len(checks) >= 15


@pytest.mark.parametrize(
    ("promise", "change"),
    [
        ("not metallic", lambda t: t["materials"][0]["pbrMetallicRoughness"].pop("metallicFactor")),
        ("rough", lambda t: t["materials"][0]["pbrMetallicRoughness"].update(roughnessFactor=0.1)),
        ("double-sided", lambda t: t["materials"][0].pop("doubleSided")),
        (
            "identity transform",
            lambda t: t["nodes"][0].update(translation=[0, 1, 0]),
        ),
        ("named after the prompt", lambda t: t["nodes"][0].update(name="mesh")),
        ("provenance in asset.extras", lambda t: t["asset"]["extras"].pop("seed")),
        ("unit normals", lambda t: t["meshes"][0]["primitives"][0]["attributes"].pop("NORMAL")),
    ],
)
def test_each_broken_promise_is_found(exported, tmp_path, promise, change):
    edit(exported.glb, tmp_path / "bad.glb", change)
    assert promise in failures(tmp_path / "bad.glb")


def test_wrong_height_and_texture_size_are_found(exported):
    assert failures(exported.glb, height=1.5) == {"requested height"}
    assert failures(exported.glb, size=1024) == {"embedded texture"}


def rewritten(exported, path: Path, **changes: Any) -> Path:
    mesh = load_glb(exported.glb, undo_placement=True)
    mesh = replace(mesh, **{name: change(mesh) for name, change in changes.items()})
    placement = Placement.on_ground(load_glb(exported.glb, undo_placement=True), 1.0)
    write_glb(path, mesh, placement, name=NAME, extras=read_extras(exported.glb))
    return path


def test_overlapping_charts_are_found(exported, tmp_path):
    path = rewritten(exported, tmp_path / "m.glb", uv=lambda m: np.abs(m.uv - 0.5))
    assert failures(path) == {"no overlapping charts"}


def test_uv_outside_the_square_is_found(exported, tmp_path):
    path = rewritten(exported, tmp_path / "m.glb", uv=lambda m: m.uv * 1.5)
    assert failures(path) == {"UV inside [0, 1]"}


def test_a_lifted_model_is_found(exported, tmp_path):
    path = rewritten(exported, tmp_path / "m.glb", vertices=lambda m: m.vertices + np.float32(0.1))
    assert failures(path) == {"stands on the ground, centred"}


def test_a_flat_triangle_is_found(exported, tmp_path):
    def flatten(mesh):
        vertices = mesh.vertices.copy()
        vertices[mesh.faces[0, 0]] = vertices[mesh.faces[0, 1]]
        return vertices

    path = rewritten(exported, tmp_path / "m.glb", vertices=flatten)
    assert "no triangle without area" in failures(path)


def test_a_floater_is_found(exported, tmp_path):
    def split_off(mesh):
        vertices = mesh.vertices.copy()
        last = mesh.faces[-1]
        vertices = np.concatenate([vertices, vertices[last] * 0.5])
        return vertices

    mesh = load_glb(exported.glb, undo_placement=True)
    extra = np.arange(3) + len(mesh.vertices)
    last = mesh.faces[-1]
    path = rewritten(
        exported,
        tmp_path / "m.glb",
        vertices=split_off,
        faces=lambda m: np.concatenate([m.faces, extra[None]]),
        uv=lambda m: np.concatenate([m.uv, m.uv[last]]),
        normals=lambda m: np.concatenate([m.normals, m.normals[last]]),
    )
    assert "no floaters" in failures(path)


def test_a_file_that_does_not_open_fails_its_first_check(exported, tmp_path):
    shutil.copy(exported.glb, tmp_path / "cut.glb")
    (tmp_path / "cut.glb").write_bytes(exported.glb.read_bytes()[:5000])
    assert failures(tmp_path / "cut.glb") == {"opens as one mesh"}
