"""The row of a prompt: all that is known about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dreamlab.core.config import build, to_plain
from dreamlab.core.errors import InputError
from dreamlab.evaluation.child import Outcome
from dreamlab.evaluation.measure import Measures
from dreamlab.evaluation.prompts import BenchPrompt, all_prompts


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


def row_from_plain(plain: Mapping[str, Any]) -> Row:
    """Rebuild what `row_to_plain` wrote; of the report there is what a row asks of it.

    Raises:
        InputError: something is missing or of another kind, or the prompt is none of the bench's.
    """
    prompt = next((one for one in all_prompts() if one.text == plain.get("prompt")), None)
    if prompt is None:
        raise InputError(
            f"{plain.get('prompt')!r} is no prompt of ToyBench.", "measure the bench again."
        )
    return Row(
        prompt=prompt,
        outcome=build(Outcome, plain.get("outcome") or {}, "outcome"),
        error=str(plain.get("error", "")),
        report={
            "seconds": plain.get("phase_seconds") or {},
            "export": {"silhouette_iou": plain.get("mesh_to_render_iou")},
        },
        measures=_measured(plain["measures"], "measures") if plain.get("measures") else None,
        truth=_measured(plain.get("truth") or {}, "truth"),
    )


def _measured(plain: Mapping[str, Any], where: str) -> Measures:
    return build(Measures, {k: v for k, v in plain.items() if k != "janus_correct"}, where)


def _measures(measures: Measures) -> dict[str, Any]:
    plain = to_plain(measures)
    facing = measures.facing
    return {**plain, "janus_correct": facing.correct if facing else None}
