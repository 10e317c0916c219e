"""Blender as a child process: a script with an argument, its report as JSON.

Blender's Python package is tied to one Python version, so it may live in an environment of its own:
name that environment's interpreter in DREAMLAB_BLENDER_PYTHON.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dreamlab.core.errors import MissingError
from dreamlab.export.files.blender import check_formats, interpreter

MARK = "REPORT "


def need_blender() -> None:
    """Skip the test where Blender is not installed."""
    try:
        check_formats(["blend"])
    except MissingError as error:
        pytest.skip(str(error))


def run_blender(
    script: Path, *arguments: str, environment: Mapping[str, str] | None = None, limit: float = 300
) -> Any:
    """Run a script in Blender; return what it printed as JSON after `MARK`."""
    need_blender()
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [interpreter(), str(script), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**own, **(environment or {})},
        timeout=limit,
        check=False,
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith(MARK)]
    assert lines, result.stdout[-3000:] + result.stderr[-3000:]
    return json.loads(lines[-1].removeprefix(MARK))
