"""How long a row will take and how much memory, before it is run.

From finished runs with the same recipe and quality, of those with boxes if the row has some and of
those without if not: with r_k the steps per second of stage k and S_k its steps in the row,

    seconds = sum over k of S_k / median(r_k)  +  median(seconds outside the stages)

so rows with fewer steps are estimated to be faster; memory is the largest peak seen. Else from the
recipe's `cost` lines, which were measured on the machine that they name or say that they are
estimated, without regard to overrides. Where neither says anything, nothing is claimed.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.batch.plan import Planned
from dreamlab.jobs.batch.rows import Row
from dreamlab.jobs.queue.index import Index
from dreamlab.jobs.recipe_files import read_recipe
from dreamlab.jobs.recipes import RunConfig

MAX_REPORTS = 20
"""Runs, the newest ones, from which a recipe is estimated."""
MAX_LOOKED = 5 * MAX_REPORTS
"""Runs of a recipe and a quality, with boxes or without, whose reports are read for that."""
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
TIME = re.compile(r"(\d+(?:\.\d+)?) (s|min|h)\b")
MEMORY = re.compile(r"(\d+(?:\.\d+)?) GB\b")
Kind = tuple[str, str, bool]
"""Recipe, quality, and whether there are boxes: the prior is asked about each, at its own rate."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a row will take; None where nothing is known."""

    seconds: float | None
    memory_gb: float | None
    source: str
    """Where the figures come from."""


UNKNOWN = Estimate(None, None, "not measured")


def estimate_all(rows: Sequence[Planned], parents: Iterable[Path]) -> list[Estimate]:
    """Estimate rows from the runs inside `parents` and the recipe files."""
    kinds = {_kind(row.row, row.config) for row in rows if row.config is not None}
    reports = _reports(kinds, parents)
    written = {kind: from_cost(*kind[:2]) for kind in kinds}
    made: list[Estimate] = []
    for row in rows:
        if row.config is None:
            made.append(UNKNOWN)
            continue
        kind = _kind(row.row, row.config)
        steps = {name: stage.steps for name, stage in row.config.stages.items()}
        made.append(from_reports(steps, reports.get(kind, [])) or written[kind])
    return made


def _kind(row: Row, config: RunConfig) -> Kind:
    return row.recipe, row.quality, config.layout is not None


def from_reports(steps: Mapping[str, int], reports: Sequence[Mapping[str, Any]]) -> Estimate | None:
    """Estimate a row with so many steps a stage from report.json of finished runs.

    Returns:
        None if no report tells the speed of every stage.
    """
    seconds = 0.0
    for name, number in steps.items():
        rates = [r["stages"][name]["steps_per_second"] for r in reports if name in r["stages"]]
        known = [rate for rate in rates if rate]
        if not known:
            return None
        seconds += number / median(known)
    spent = [{k: v for k, v in report["seconds"].items() if k != "total"} for report in reports]
    outside = [sum(v for k, v in phases.items() if k not in steps) for phases in spent]
    memory = max(max(report["memory"].values(), default=0.0) for report in reports)
    number = f"{len(reports)} finished run{'s' if len(reports) > 1 else ''}"
    return Estimate(round(seconds + median(outside), 1), memory, f"measured, {number}")


def from_cost(recipe: str, quality: str) -> Estimate:
    """Read the cost line of a recipe."""
    cost = read_recipe(recipe).cost.get(quality, "")
    time, memory = TIME.search(cost), MEMORY.search(cost)
    if time is None:
        return UNKNOWN
    seconds = float(time[1]) * UNITS[time[2]]
    return Estimate(seconds, float(memory[1]) if memory else None, f"recipe: {cost}")


def _reports(kinds: set[Kind], parents: Iterable[Path]) -> dict[Kind, list[dict[str, Any]]]:
    """Gather the reports of finished runs, the newest first."""
    found: dict[Kind, list[dict[str, Any]]] = defaultdict(list)
    looked = Counter[Kind]()
    for parent in parents:
        for entry in Index(parent).search(states=("done",), limit=-1).entries:
            both = [(entry.recipe, entry.quality, has_boxes) for has_boxes in (False, True)]
            is_wanted = any(kind in kinds and len(found[kind]) < MAX_REPORTS for kind in both)
            if not is_wanted or looked[both[0]] >= MAX_LOOKED:
                continue
            looked[both[0]] += 1
            report = read_report(entry.root)
            if report is not None and report.get("complete"):
                found[both[bool(report.get("boxes"))]].append(report)
    return {kind: reports[:MAX_REPORTS] for kind, reports in found.items()}


def read_report(root: Path) -> dict[str, Any] | None:
    """Read report.json of a run; None if there is none, or it is not one of ours."""
    try:
        report = json.loads(RunFolder(root).report.read_text(encoding="utf-8"))
    except (OSError, ValueError, InputError):
        return None
    sections = ("seconds", "stages", "memory")
    whole = isinstance(report, dict) and all(isinstance(report.get(s), dict) for s in sections)
    return report if whole else None
