"""UV coordinates: xatlas in a child process with a time limit, box projection if that fails.

xatlas (Young 2016-2022) makes few charts with little distortion, but crashes or never ends on some
meshes, and which ones cannot be predicted. A child process can die or be ended without harm.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from dreamlab.core.mesh import Mesh
from dreamlab.ops.mesh.box_atlas import Unwrapped, unwrap_box
from dreamlab.ops.mesh.settings import Method

PADDING = 4
"""Texels kept free around every chart, so that the first two mip levels do not mix charts."""
ATLAS_SIDE = 1000.0
"""Largest side of the mesh that xatlas is given: it gives triangles with an area below 1.2e-7 (a
fixed number) no place in the texture, and a mesh of side 2 may have such."""
POLL_SECONDS = 0.2
CHILD = (sys.executable, str(Path(__file__).with_name("unwrap_child.py")))
"""Command that is given the paths of an input and an output file."""


@dataclass(frozen=True)
class Unwrap:
    """UV coordinates and where they come from."""

    mesh: Mesh
    """Cut along seams, with `uv`; normals are carried over."""
    source: Int[ndarray, " vertices"]
    """For every vertex, that of the uncut mesh."""
    method: Method
    seconds: float
    warning: str | None
    """Why the box projection stands in for xatlas, if it does."""


def unwrap(
    mesh: Mesh,
    *,
    method: Method,
    texture_size: int,
    time_limit: float,
    on_progress: Callable[[float], None] = lambda fraction: None,
    child: Sequence[str] = CHILD,
) -> Unwrap:
    """Give a mesh UV coordinates without overlaps.

    Args:
        mesh: cleaned and simplified.
        method: "xatlas" falls back to "box" when it fails.
        texture_size: texels along each side.
        time_limit: seconds xatlas may take.
        on_progress: called with the share of the time limit that has passed.
        child: command line of the program that runs xatlas.
    """
    begin = time.perf_counter()
    warning, unwrapped = None, None
    if method == "xatlas":
        unwrapped = _run_child(mesh, texture_size, time_limit, on_progress, child)
        if isinstance(unwrapped, str):
            warning = f"{unwrapped}; unwrapped by box projection instead"
    if not isinstance(unwrapped, Unwrapped):
        method, unwrapped = "box", unwrap_box(mesh, texture_size, PADDING)
    cut = Mesh(
        mesh.vertices[unwrapped.source],
        unwrapped.faces,
        normals=None if mesh.normals is None else mesh.normals[unwrapped.source],
        uv=unwrapped.uv,
    )
    return Unwrap(cut, unwrapped.source, method, time.perf_counter() - begin, warning)


def _run_child(
    mesh: Mesh,
    texture_size: int,
    time_limit: float,
    on_progress: Callable[[float], None],
    child: Sequence[str],
) -> Unwrapped | str:
    """Run the child program; return its result, or in words why there is none."""
    with tempfile.TemporaryDirectory(prefix="dreamlab-unwrap-") as folder:
        source, target, log = (Path(folder) / name for name in ("in.npz", "out.npz", "log.txt"))
        np.savez(
            source,
            vertices=_enlarged(mesh.vertices),
            faces=mesh.faces.astype(np.uint32),
            resolution=texture_size,
            padding=PADDING,
            seconds=time_limit,
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*child, str(source), str(target)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            status = _wait(process, time_limit, on_progress)
        if status is None:
            return f"xatlas was ended after the time limit of {time_limit:g} s"
        if status != 0:
            words = " ".join(log.read_text(errors="replace").split())[-200:]
            return f"xatlas failed with status {status}" + (f" ({words})" if words else "")
        return _read(target, mesh) if target.exists() else "xatlas wrote no result"


def _enlarged(vertices: Float[ndarray, "vertices 3"]) -> Float[ndarray, "vertices 3"]:
    """Return a copy whose largest side is `ATLAS_SIDE`."""
    from_corner = vertices.astype(np.float64) - vertices.min(axis=0)
    return (from_corner * (ATLAS_SIDE / max(from_corner.max(), 1e-30))).astype(np.float32)


def _wait(
    process: subprocess.Popen[bytes], time_limit: float, on_progress: Callable[[float], None]
) -> int | None:
    """Wait for a process; None if it had to be ended. It never outlives this call."""
    begin = time.perf_counter()
    try:
        while (elapsed := time.perf_counter() - begin) < time_limit:
            try:
                return process.wait(min(POLL_SECONDS, time_limit - elapsed))
            except subprocess.TimeoutExpired:
                on_progress(min(1.0, (time.perf_counter() - begin) / time_limit))
        return None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _read(path: Path, mesh: Mesh) -> Unwrapped | str:
    """Read the child's answer and check that it is an unwrap of `mesh`."""
    with np.load(path) as answer:
        source = answer["source"].astype(np.int64)
        faces, uv = answer["faces"].astype(np.int64), answer["uv"].astype(np.float64)
    if faces.shape != mesh.faces.shape or not np.array_equal(source[faces], mesh.faces):
        return "xatlas returned other triangles than it was given"
    if not np.isfinite(uv).all() or uv.min() < -1e-6 or uv.max() > 1 + 1e-6:
        return "xatlas returned coordinates outside the texture"
    num_unplaced = int((np.ptp(uv[faces], axis=1).max(axis=1) == 0).sum())
    if num_unplaced > 0:
        return f"xatlas gave {num_unplaced} triangles no place in the texture"
    return Unwrapped(source, faces, np.clip(uv, 0, 1))
