"""The Blender extension as a zip that Blender installs (Preferences > Add-ons > Install from Disk).

A zip holds the manifest and the modules at its top. The same sources give the same bytes: entries
are sorted and carry no time of their own.

Source of the rules for manifests: Blender manual, "Extensions", schema 1.0.0.
"""

import re
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamlab.core.errors import InputError
from dreamlab.core.locations import blender_dir
from dreamlab.core.run_folder import atomic_path

FOLDER, MANIFEST = "dreamlab_extension", "blender_manifest.toml"
REQUIRED: dict[str, type] = {
    "schema_version": str,
    "id": str,
    "version": str,
    "name": str,
    "tagline": str,
    "maintainer": str,
    "type": str,
    "blender_version_min": str,
    "license": list,
}
"""Keys that Blender demands, with their types."""
PERMISSIONS = ("files", "network", "clipboard", "camera", "microphone")
OLDEST = (4, 2, 0)
"""First Blender with extensions."""
MAX_SENTENCE = 64
"""Letters of the tagline and of the reason for a permission."""
VERSION_PATTERN = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
ID_PATTERN = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")
FIRST_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can state."""


def write_extension(folder: Path) -> Path:
    """Write the zip to `folder`, which is made if need be; return its path.

    Raises:
        InputError: the manifest breaks a rule of Blender.
    """
    source = blender_dir() / FOLDER
    manifest = read_manifest(source / MANIFEST)
    path = folder / f"{manifest['id']}-{manifest['version']}.zip"
    modules = sorted(source.glob("*.py"))
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for file in (source / MANIFEST, *modules):
            entry = zipfile.ZipInfo(file.name, FIRST_TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return path


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest and check it.

    Raises:
        InputError: it cannot be read, or breaks a rule of Blender; the message names all of them.
    """
    try:
        manifest = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.", "reinstall dreamlab.") from None
    broken = list(_broken(manifest))
    if broken:
        raise InputError(f"{path} is refused by Blender: {'; '.join(broken)}.", "correct the file.")
    return manifest


def _broken(manifest: Mapping[str, Any]) -> list[str]:
    wrong = [
        f"{key} must be a {kind.__name__}"
        for key, kind in REQUIRED.items()
        if not isinstance(manifest.get(key), kind) or not manifest[key]
    ]
    if wrong:
        return wrong
    rules = {
        "schema_version must be 1.0.0": manifest["schema_version"] == "1.0.0",
        "type must be add-on": manifest["type"] == "add-on",
        "id must be a Python name": ID_PATTERN.fullmatch(manifest["id"]),
        "version must be like 1.2.3": VERSION_PATTERN.fullmatch(manifest["version"]),
        "blender_version_min must be 4.2.0 or later": _is_extension_blender(
            manifest["blender_version_min"]
        ),
        "license must be a list like ['SPDX:Apache-2.0']": all(
            isinstance(licence, str) and licence.startswith("SPDX:")
            for licence in manifest["license"]
        ),
        _about_sentence("tagline"): _is_sentence(manifest["tagline"]),
    }
    return [rule for rule, holds in rules.items() if not holds] + _broken_permissions(manifest)


def _broken_permissions(manifest: Mapping[str, Any]) -> list[str]:
    permissions = manifest.get("permissions", {})
    if not isinstance(permissions, dict):
        return ["permissions must be a table"]
    wrong = [f"there is no permission {key}" for key in permissions if key not in PERMISSIONS]
    return wrong + [
        _about_sentence(f"permissions.{key}")
        for key, reason in permissions.items()
        if not _is_sentence(reason)
    ]


def _about_sentence(key: str) -> str:
    return f"{key} must have 1 to {MAX_SENTENCE} letters and end with a letter, digit or bracket"


def _is_sentence(text: object) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text) <= MAX_SENTENCE
        and text == text.strip()
        and (text[-1].isalnum() or text[-1] in ")]}")
    )


def _is_extension_blender(version: str) -> bool:
    parts = version.split(".")
    return (
        len(parts) == 3
        and all(part.isdigit() for part in parts)
        and tuple(map(int, parts)) >= OLDEST
    )
