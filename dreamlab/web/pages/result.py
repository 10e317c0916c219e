"""What a run has made: turntable, statistics and checks of the mesh, files to take away."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dreamlab.core.run_folder import RunFolder
from dreamlab.web.pages import markup
from dreamlab.web.pages.pictures import changed_at
from dreamlab.web.service import Service
from dreamlab.web.views import FileView

KINDS = {
    "glb": "Model with texture, for Blender, the web and game engines",
    "obj": "Model with texture, for older programs",
    "ply": "Points or vertices with colours",
    "stl": "Shape alone, for printing",
    "mtl": "Material of the OBJ file; belongs beside it",
    "usdz": "Model with texture, for Apple devices",
    "fbx": "Model with texture, for game engines",
    "blend": "Scene of Blender",
    "mp4": "Turntable",
    "png": "Pictures of all views",
    "json": "Report: times, memory, checks",
    "yaml": "Every setting of the run",
    "txt": "Log",
}
"""Suffix to what the file is for."""
NAMED = {"splats.ply": "Gaussians, for viewers of splats"}
"""Files that are for something else than others of their suffix."""
FIRST = tuple(KINDS)


def read_report(folder: RunFolder) -> dict[str, Any]:
    """Read report.json; empty if there is none, or it is not one of ours."""
    try:
        report = json.loads(folder.report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def turntable(service: Service, folder: RunFolder) -> str:
    """Show the turntable, colour beside normals."""
    if not folder.turntable.is_file():
        return ""
    return (
        f'<section><h2>Turntable</h2><video class="turntable" src="{video_link(service, folder)}" '
        'autoplay loop muted playsinline controls aria-label="the model turns once"></video>'
        "</section>"
    )


def video_link(service: Service, folder: RunFolder) -> str:
    """Return the address of the turntable, another one when it is made again."""
    return f"{service.url(folder)}/files/turntable.mp4?{changed_at(folder.turntable)}"


def statistics(folder: RunFolder) -> str:
    """Show what the mesh is like, and whether it passed all checks."""
    report = read_report(folder)
    export = report.get("export")
    if not isinstance(export, dict):
        return ""
    shown = {
        "Faces": f"{export.get('faces', 0):,}",
        "Vertices": f"{export.get('vertices', 0):,}",
        "Watertight": "yes" if export.get("watertight") else "no",
        "Outline agrees": _percent(export.get("silhouette_iou")),
        "Unwrapped by": export.get("unwrap_method"),
        "Time": markup.duration(report.get("seconds", {}).get("total")),
        "Memory": _gigabytes(report.get("memory", {})),
    }
    return f"<section><h2>Mesh</h2>{_checks(export)}{markup.facts(shown)}</section>"


def _checks(export: Mapping[str, Any]) -> str:
    checks: Sequence[Mapping[str, Any]] = export.get("checks") or []
    passed = sum(bool(check.get("passed")) for check in checks)
    if not checks:
        return markup.notice("note", "Not checked: of the files, GLB alone can be.")
    kind = "good" if export.get("valid") else "bad"
    words = "Ready for Blender" if export.get("valid") else "Some checks failed"
    lines = "".join(
        f'<li class="{"pass" if check.get("passed") else "fail"}">{escape(str(check.get("name")))}'
        f"<span>{escape(str(check.get('found')))}</span></li>"
        for check in checks
    )
    return (
        f'<details class="checks {kind}"><summary><b>{words}</b>'
        f"<span>{passed} of {len(checks)} checks passed</span></summary><ul>{lines}</ul></details>"
    )


def downloads(service: Service, folder: RunFolder) -> str:
    """List the files of a run, models first, and all of them as one archive."""
    files = [file for file in service.files(folder) if not file.path.startswith("previews/")]
    rows = _rows(files)
    archive = f"{service.url(folder)}/archive"
    return (
        f'<section><h2>Downloads</h2><ul class="downloads">{rows}'
        f'<li><a href="{escape(archive)}" download><b>Everything</b>'
        "<span>One zip file with all of these</span></a></li></ul></section>"
    )


def exported(service: Service, folder: RunFolder) -> str:
    """List the models of a run."""
    files = [file for file in service.files(folder) if file.path.startswith("exports/")]
    if not files:
        return ""
    return f'<section><h2>Downloads</h2><ul class="downloads">{_rows(files)}</ul></section>'


def _rows(files: Sequence[FileView]) -> str:
    return "".join(_download(file) for file in sorted(files, key=_rank))


def _rank(file: FileView) -> tuple[int, str]:
    suffix = file.path.rpartition(".")[2]
    return FIRST.index(suffix) if suffix in FIRST else len(FIRST), file.path


def _download(file: FileView) -> str:
    name = file.path.rpartition("/")[2]
    about = NAMED.get(name) or KINDS.get(name.rpartition(".")[2], "")
    return (
        f'<li><a href="{escape(file.url)}" download="{escape(name)}"><b>{escape(name)}</b>'
        f"<span>{escape(about)}</span><small>{markup.size_of(file.size)}</small></a></li>"
    )


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f} %"


def _gigabytes(memory: Mapping[str, float]) -> str | None:
    return f"{max(memory.values()):.1f} GB" if memory else None
