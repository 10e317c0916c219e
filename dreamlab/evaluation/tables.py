"""Figures of a bench: medians or shares over the seen and the held-out prompts, with targets.

A prompt that failed counts as the worst value in every figure of quality, and not at all in those
of cost. The ceiling of a figure is what the true meshes themselves get.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Literal

from dreamlab.evaluation.measure import Measures
from dreamlab.evaluation.rows import Row

Group = Literal["seen", "held out", "all"]
GROUPS: tuple[Group, ...] = ("seen", "held out", "all")


@dataclass(frozen=True)
class Quality:
    """A figure that compares with the truth."""

    name: str
    of: Callable[[Measures], float | None]
    """Value of one object; None where it could not be asked."""
    worst: float
    """What a failed prompt counts as."""
    average: Callable[[Sequence[float]], float]
    form: str
    """How it is written."""
    target: str


@dataclass(frozen=True)
class Cost:
    """A figure of a run, without a ceiling."""

    name: str
    of: Callable[[Row], float | None]
    form: str
    target: str


def _janus(measures: Measures) -> float | None:
    return None if measures.facing is None else float(measures.facing.correct)


def _found(measures: Measures) -> float | None:
    return None if measures.found is None else fmean(measures.found)


def _color(measures: Measures) -> float:
    return math.inf if measures.color_error is None else measures.color_error


def _chroma(measures: Measures) -> float:
    return math.inf if measures.chroma_excess is None else measures.chroma_excess


QUALITIES: tuple[Quality, ...] = (
    Quality(
        "R-precision, mean",
        lambda m: m.r_precision,
        0.0,
        fmean,
        "{:.1%}",
        "≥ 90 % seen, ≥ 75 % held out",
    ),
    Quality("objects found, mean", _found, 0.0, fmean, "{:.1%}", ""),
    Quality("Janus-correct, share", _janus, 0.0, fmean, "{:.1%}", "≥ 80 %"),
    Quality("silhouette IoU, median", lambda m: m.silhouette_iou, 0.0, median, "{:.3f}", "≥ 0.80"),
    Quality("Chamfer distance, median", lambda m: m.chamfer, math.inf, median, "{:.4f}", ""),
    Quality("colour error ΔE2000, median", _color, math.inf, median, "{:.1f}", ""),
    Quality("chroma excess ΔC*, median", _chroma, math.inf, median, "{:+.1f}", ""),
)
COSTS: tuple[Cost, ...] = (
    Cost("mesh-to-render IoU, median", lambda r: r.mesh_to_render_iou, "{:.3f}", "≥ 0.97"),
    Cost("wall time, median", lambda r: r.outcome.seconds, "{:.0f} s", "≤ 180 s (draft ≤ 90 s)"),
    Cost("peak RSS, median", lambda r: r.outcome.peak_rss_gb, "{:.2f} GB", "≤ 3 GB"),
)


def group(rows: Sequence[Row], name: Group) -> list[Row]:
    """Return the rows of one group of prompts."""
    return [row for row in rows if name == "all" or row.prompt.held_out == (name == "held out")]


def figure(quality: Quality, rows: Sequence[Row], *, of_truth: bool = False) -> float | None:
    """Average a figure over rows; None if no row has it.

    Rows whose truth has no value are left out: there it could not be asked.
    """
    values: list[float] = []
    for row in rows:
        ceiling = quality.of(row.truth)
        if ceiling is None:
            continue
        value = ceiling
        if not of_truth:
            value = quality.worst if row.measures is None else quality.of(row.measures)
        assert value is not None  # asked of the truth, hence of the object
        values.append(value)
    return quality.average(values) if values else None


def cost(figure_of: Cost, rows: Sequence[Row]) -> float | None:
    """Return the median over the rows that did not fail; None if all did."""
    values = [figure_of.of(row) for row in rows if row.measures is not None]
    known = [value for value in values if value is not None]
    return median(known) if known else None


def phase_seconds(rows: Sequence[Row]) -> dict[str, float]:
    """Return the median duration of every phase over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row.phase_seconds)
    return {
        name: median(row.phase_seconds[name] for row in rows if name in row.phase_seconds)
        for name in names
    }


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return all figures as plain values; what is infinite or unknown is None."""
    found: dict[str, Any] = {
        "prompts": len(rows),
        "failed": sum(row.measures is None for row in rows),
    }
    for quality in QUALITIES:
        found[quality.name] = {
            "target": quality.target,
            **{name: _finite(figure(quality, group(rows, name))) for name in GROUPS},
            "ceiling": {
                name: _finite(figure(quality, group(rows, name), of_truth=True)) for name in GROUPS
            },
        }
    for one in COSTS:
        found[one.name] = {
            "target": one.target,
            **{name: cost(one, group(rows, name)) for name in GROUPS},
        }
    return found


def report(rows: Sequence[Row], title: str) -> str:
    """Return the tables as Markdown: figures, phases, prompts."""
    failed = sum(row.measures is None for row in rows)
    return "\n".join(
        [
            "# ToyBench",
            "",
            f"{len(rows)} prompts, {failed} failed; {title}. In brackets the ceiling: what the true"
            " meshes get when they are measured alike.",
            "",
            *_figures(rows),
            "",
            *_phases(rows),
            "",
            *_prompts(rows),
            "",
        ]
    )


def comparison(benches: Sequence[tuple[str, Sequence[Row]]]) -> str:
    """Return a Markdown table of benches, a line each, over the prompts that all of them have.

    Args:
        benches: of each its title and its rows; one at least.
    """
    common = set.intersection(*({row.prompt.text for row in rows} for _, rows in benches))
    kept = [(title, [row for row in rows if row.prompt.text in common]) for title, rows in benches]
    lines = _header("bench", *(one.name for one in (*QUALITIES, *COSTS)))
    for title, rows in kept:
        cells = [_show(figure(quality, rows), quality.form) for quality in QUALITIES]
        cells += [_show(cost(one, rows), one.form) for one in COSTS]
        lines.append(_line(title, *cells))
    truth = kept[0][1]
    ceiling = [_show(figure(one, truth, of_truth=True), one.form) for one in QUALITIES]
    lines.append(_line("true meshes", *ceiling, *["–"] * len(COSTS)))
    about = f"{len(common)} prompts, {len(group(truth, 'held out'))} of them held out."
    return "\n".join([about, "", *lines, ""])


def _figures(rows: Sequence[Row]) -> list[str]:
    lines = _header("figure", *GROUPS, "target")
    for quality in QUALITIES:
        cells = []
        for name in GROUPS:
            some = group(rows, name)
            value, ceiling = figure(quality, some), figure(quality, some, of_truth=True)
            cells.append(f"{_show(value, quality.form)} ({_show(ceiling, quality.form)})")
        lines.append(_line(quality.name, *cells, quality.target))
    for one in COSTS:
        cells = [_show(cost(one, group(rows, name)), one.form) for name in GROUPS]
        lines.append(_line(one.name, *cells, one.target))
    return lines


def _phases(rows: Sequence[Row]) -> list[str]:
    lines = _header("phase", "median")
    return lines + [
        _line(name, f"{seconds:.1f} s") for name, seconds in phase_seconds(rows).items()
    ]


def _prompts(rows: Sequence[Row]) -> list[str]:
    names = [quality.name.partition(",")[0] for quality in QUALITIES]
    lines = _header("prompt", "held out", *names, "seconds", "error")
    for row in rows:
        cells = [
            _show(quality.of(row.measures) if row.measures else None, quality.form)
            for quality in QUALITIES
        ]
        held_out = "yes" if row.prompt.held_out else ""
        error = " ".join(row.error.replace("|", "/").split())
        lines.append(_line(row.prompt.text, held_out, *cells, f"{row.outcome.seconds:.0f}", error))
    return lines


def _header(*cells: str) -> list[str]:
    return [_line(*cells), "|" + "---|" * len(cells)]


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _show(value: float | None, form: str) -> str:
    if value is None:
        return "–"
    return form.format(value) if math.isfinite(value) else "∞"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
