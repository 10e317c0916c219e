"""The row of a prompt: all that is known about it."""

from dataclasses import dataclass
from typing import Any

from dreamlab.core.config import to_plain
from dreamlab.evaluation.child import Outcome
from dreamlab.evaluation.measure import Measures
from dreamlab.evaluation.prompts import BenchPrompt


@dataclass(frozen=True)
class Row:
    """What came of a prompt."""

    prompt: BenchPrompt
    outcome: Outcome
    """How its process ended."""
    error: str
    """Why there is no model to measure; empty if there is one."""
    report: dict[str, Any]
    """report.json of the run; empty if it failed."""
    measures: Measures | None
    """Of the exported GLB; None if it failed."""
    truth: Measures
    """Of the true mesh, measured alike: the ceiling."""

    @property
    def phase_seconds(self) -> dict[str, float]:
        """Duration of every phase of the run, without the total."""
        seconds = self.report.get("seconds", {})
        return {name: float(value) for name, value in seconds.items() if name != "total"}

    @property
    def mesh_to_render_iou(self) -> float | None:
        """Silhouette IoU of the exported mesh and the renders it was made from."""
        export = self.report.get("export") or {}
        return export.get("silhouette_iou")


def row_to_plain(row: Row) -> dict[str, Any]:
    """Return a row as plain values for JSON, without the report's text."""
    return {
        "prompt": row.prompt.text,
        "held_out": row.prompt.held_out,
        "error": row.error,
        "outcome": to_plain(row.outcome),
        "phase_seconds": row.phase_seconds,
        "mesh_to_render_iou": row.mesh_to_render_iou,
        "measures": _measures(row.measures) if row.measures else None,
        "truth": _measures(row.truth),
    }


def _measures(measures: Measures) -> dict[str, Any]:
    plain = to_plain(measures)
    facing = measures.facing
    return {**plain, "janus_correct": facing.correct if facing else None}
