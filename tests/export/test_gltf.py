"""The Khronos validator judges the export: npm install --prefix tests/export."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from painted_ellipsoid import PARTS

HERE = Path(__file__).parent
REASON = "needs node and `npm install --prefix tests/export`"

pytestmark = [
    pytest.mark.gltf,
    pytest.mark.skipif(
        shutil.which("node") is None or not (HERE / "node_modules/gltf-validator").is_dir(),
        reason=REASON,
    ),
]


def judge(path: Path) -> dict:
    command = ["node", str(HERE / "validate_gltf.mjs"), str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output)["issues"]


def test_the_validator_finds_neither_errors_nor_warnings(exported):
    issues = judge(exported.glb)
    assert issues["messages"] == []
    assert issues["numErrors"] == issues["numWarnings"] == 0


def test_the_validator_finds_neither_errors_nor_warnings_with_a_material(shiny):
    assert judge(shiny[0] / "model.glb")["messages"] == []


def test_the_validator_finds_neither_errors_nor_warnings_in_separate_objects(apart):
    assert judge(apart.glb)["messages"] == []


@pytest.mark.parametrize("name", PARTS)
def test_the_validator_finds_nothing_in_the_file_of_any_representation(name, of_kind):
    assert judge(of_kind(name).glb)["messages"] == []


def test_the_validator_would_find_an_error(exported, tmp_path):
    content = exported.glb.read_bytes().replace(b'"mode":4', b'"mode":9', 1)
    (tmp_path / "bad.glb").write_bytes(content)
    assert judge(tmp_path / "bad.glb")["numErrors"] > 0
