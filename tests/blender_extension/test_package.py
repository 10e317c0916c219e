"""Claims about the zip that Blender installs."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from blender_child import need_blender
from typer.testing import CliRunner

from dreamlab.cli.main import app
from dreamlab.core.errors import InputError
from dreamlab.core.locations import blender_dir
from dreamlab.core.version import VERSION
from dreamlab.export.files.blender import interpreter
from dreamlab.jobs.extension import FOLDER, MANIFEST, read_manifest, write_extension

SOURCE = blender_dir() / FOLDER


def test_the_command_writes_a_zip_with_every_module_at_its_top(tmp_path):
    result = CliRunner().invoke(app, ["blender", "package", "-o", str(tmp_path), "--json"])
    path = Path(json.loads(result.stdout)["file"])
    assert path == tmp_path / f"dreamlab-{VERSION}.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert set(names) == {file.name for file in SOURCE.iterdir() if file.is_file()}
        assert archive.read("client.py") == (SOURCE / "client.py").read_bytes()


def test_the_same_sources_give_the_same_bytes(tmp_path):
    one, two = (write_extension(tmp_path / name).read_bytes() for name in ("one", "two"))
    assert one == two


def test_the_manifest_has_the_version_of_dreamlab_and_says_why_it_needs_what():
    manifest = read_manifest(SOURCE / MANIFEST)
    assert manifest["version"] == VERSION
    assert set(manifest["permissions"]) == {"network", "files"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('id = "dreamlab"', 'id = "dream lab"', "id"),
        ('id = "dreamlab"', "id = 3", "id must be a str"),
        ('version = "0.1.0"', 'version = "new"', "version"),
        ('type = "add-on"', 'type = "theme"', "type"),
        ('blender_version_min = "4.2.0"', 'blender_version_min = "3.6.0"', "4.2.0"),
        ('["SPDX:Apache-2.0"]', '["Apache"]', "license"),
        ("a textured model", "a model.", "tagline"),
        ("network =", "internet =", "no permission internet"),
        ("dreamlab server", "dreamlab server " + "x" * 64, "permissions.network"),
    ],
)
def test_a_manifest_that_blender_would_refuse_is_refused(tmp_path, old, new, said):
    text = (SOURCE / MANIFEST).read_text()
    assert old in text
    broken = tmp_path / MANIFEST
    broken.write_text(text.replace(old, new))
    with pytest.raises(InputError, match="refused") as caught:
        read_manifest(broken)
    assert said in caught.value.message


def test_what_is_no_manifest_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / MANIFEST)


def test_the_parts_without_blender_use_the_standard_library_alone():
    code = (
        "import sys; before = set(sys.modules); import dreamlab_extension.session; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    code = f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); {code}"
    command = [sys.executable, "-I", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["dreamlab_extension"]


@pytest.mark.blender
def test_blender_itself_finds_nothing_wrong_with_the_zip(tmp_path):
    need_blender()
    where = "from importlib.util import find_spec; print(find_spec('bpy').origin)"
    command = [interpreter(), "-c", where]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    root = Path(found).parent
    (tool,) = root.glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py")
    command = [interpreter(), str(tool), "validate", str(write_extension(tmp_path))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
