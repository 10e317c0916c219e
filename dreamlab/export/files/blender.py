"""Formats that Blender writes from the GLB: .blend, FBX and USDZ, textures inside.

Blender's Python package (bpy) is large, GPL and tied to one Python version, so it is never imported
here: a program of its own (`blender/convert_model.py`) runs in a child process. The interpreter is
this one, or the one that DREAMLAB_BLENDER_PYTHON names.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from dreamlab.core.errors import InputError, MissingError
from dreamlab.core.locations import blender_dir
from dreamlab.core.run_folder import atomic_path
from dreamlab.export.settings import BLENDER_FORMATS

VARIABLE = "DREAMLAB_BLENDER_PYTHON"
TIME_LIMIT = 300.0
"""Seconds that a conversion may take."""
PROBE_SECONDS = 60.0
HAS_BPY = "import importlib.util, sys; sys.exit(importlib.util.find_spec('bpy') is None)"


def interpreter() -> str:
    """Return the interpreter that Blender runs in."""
    return os.environ.get(VARIABLE) or sys.executable


def check_formats(formats: Sequence[str]) -> None:
    """Refuse formats that Blender has to write where it is not installed.

    Raises:
        MissingError: naming the formats and how to install it.
    """
    wanted = [kind for kind in formats if kind in BLENDER_FORMATS]
    if wanted and not has_bpy():
        raise MissingError(
            f"Blender writes {' and '.join(wanted)}, and its package bpy is not installed.",
            "make a virtual environment of its own, run `pip install bpy` there and set "
            f"{VARIABLE} to its interpreter (see docs/blender.md).",
        )


def convert(glb: Path, targets: Sequence[Path]) -> None:
    """Write a GLB in other formats, each atomically.

    Args:
        glb: the model.
        targets: their suffixes are of `BLENDER_FORMATS`.

    Raises:
        MissingError: bpy is not installed.
        InputError: Blender failed, or took longer than `TIME_LIMIT`.
    """
    check_formats([target.suffix.removeprefix(".") for target in targets])
    with tempfile.TemporaryDirectory(prefix="dreamlab-blender-") as folder:
        made = {target: Path(folder) / target.name for target in targets}
        said = _run([str(glb), *map(str, made.values())], folder)
        for target, temporary in made.items():
            if not temporary.is_file():
                raise InputError(
                    f"Blender wrote no {target.name}: {said}",
                    "leave this format out, or try another version of bpy.",
                )
            with atomic_path(target) as place:
                place.write_bytes(temporary.read_bytes())


def has_bpy() -> bool:
    """Whether that interpreter has Blender's package."""
    if interpreter() == sys.executable:
        return importlib.util.find_spec("bpy") is not None
    try:
        probe = subprocess.run(
            [interpreter(), "-c", HAS_BPY],
            stdin=subprocess.DEVNULL,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def _run(arguments: Sequence[str], home: str) -> str:
    """Run the script; return the last of what it said."""
    command = [interpreter(), str(blender_dir() / "convert_model.py"), *arguments]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(home),
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it was ended after {TIME_LIMIT:g} s."
    return " ".join(result.stdout.decode(errors="replace").split())[-300:]


def _environment(home: str) -> Mapping[str, str]:
    """Return the environment without what belongs to this interpreter or to the user's Blender."""
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**own, "BLENDER_USER_RESOURCES": home}
