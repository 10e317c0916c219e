"""What came of the rows of a batch: results.jsonl, results.csv and index.html, from the folders.

The three files are written anew whenever a row has ended, atomically; paths in them are relative to
the batch's folder, so it can be moved, zipped and opened anywhere.
"""

import csv
import json
import os
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from dreamlab.core.errors import ExitCode
from dreamlab.core.run_folder import RunFolder, write_text
from dreamlab.jobs.batch.estimate import read_report
from dreamlab.jobs.batch.plan import Planned
from dreamlab.jobs.queue.index import Entry, Index

TEMPLATE = Path(__file__).with_name("sheet.html")
PLACE = "/*DATA*/"
"""Where the rows go in the template."""
FIRST = ("row", "state", "prompt", "negative_prompt", "seed", "recipe", "quality")
LAST = (
    "seconds",
    "memory_gb",
    "faces",
    "valid",
    "silhouette_iou",
    "reason",
    "fix",
    "run",
    "glb",
    "preview",
    "picture",
    "turntable",
)
SETTING, METRIC = "set.", "metric."
"""Prefixes of the columns of settings and metrics."""


class Results:
    """Follows the rows of one batch."""

    def __init__(self, folder: Path, rows: Sequence[Planned], title: str, *, metrics: bool) -> None:
        """Follow the runs of `rows` inside `folder`.

        Args:
            folder: of the batch.
            rows: in order.
            title: of the contact sheet.
            metrics: also tell the training metrics of every stage.
        """
        self.folder, self.rows, self.title, self.metrics = folder, rows, title, metrics
        self.index = Index(folder)
        self._ended: dict[str, tuple[Entry, dict[str, Any]]] = {}

    def gather(self) -> list[dict[str, Any]]:
        """Return what is known about every row, as plain values."""
        runs = {entry.root.name: entry for entry in self.index.search(limit=-1).entries}
        return [self._result(row, runs.get(row.name)) for row in self.rows]

    def write(self) -> list[dict[str, Any]]:
        """Write the three files and return what they say."""
        results = self.gather()
        lines = [json.dumps(result, ensure_ascii=False) + "\n" for result in results]
        write_text(self.folder / "results.jsonl", "".join(lines))
        write_text(self.folder / "results.csv", as_csv(results))
        write_text(self.folder / "index.html", as_page(results, self.title))
        return results

    def renewed(self) -> "Results":
        """Read the folders anew, write the three files, and return what follows them now."""
        again = Results(self.folder, self.rows, self.title, metrics=self.metrics)
        again.write()
        return again

    def _result(self, planned: Planned, entry: Entry | None) -> dict[str, Any]:
        if entry is not None:
            known = self._ended.get(planned.name)
            if known is not None and known[0] == entry:
                return known[1]
        result = self._asked(planned)
        if planned.error is not None:
            return result | {
                "state": "failed",
                "code": int(planned.error.code),
                "reason": planned.error.message,
                "fix": planned.error.fix,
            }
        if entry is None:
            return result
        result |= {"state": entry.state, "reason": entry.reason, "run": planned.name}
        result |= self._made(RunFolder(entry.root))
        if entry.state not in ("queued", "running"):
            self._ended[planned.name] = entry, result
        return result

    def _asked(self, planned: Planned) -> dict[str, Any]:
        row = planned.row
        asked = {name: getattr(row, name) for name in FIRST if hasattr(row, name)}
        settings = {SETTING + key: value for key, value in row.settings.items()}
        return {"row": planned.number, "state": "queued", **asked, "where": row.where, **settings}

    def _made(self, folder: RunFolder) -> dict[str, Any]:
        """Tell what lies in a run folder."""
        made: dict[str, Any] = {}
        files = {
            "glb": folder.exports / "model.glb",
            "preview": folder.preview,
            "picture": _last_picture(folder),
            "turntable": folder.turntable,
        }
        for name, path in files.items():
            if path is not None and os.path.isfile(path):
                made[name] = path.relative_to(self.folder).as_posix()
        made |= {METRIC + name: value for name, value in read_scores(folder).items()}
        report = read_report(folder.root)
        if report is None:
            return made
        export = report.get("export") or {}
        made |= {name: export.get(name) for name in ("faces", "valid", "silhouette_iou")}
        made["seconds"] = report["seconds"].get("total")
        made["memory_gb"] = max(report["memory"].values(), default=None)
        if self.metrics:
            for stage, about in report["stages"].items():
                for name, value in about.get("metrics", {}).items():
                    made[f"{METRIC}{stage}.{name}"] = value
        return made


def _last_picture(folder: RunFolder) -> Path | None:
    """Return the last preview of a training."""
    try:
        names = [name for name in os.listdir(folder.previews) if name.endswith(".webp")]
    except OSError:
        return None
    return folder.previews / max(names) if names else None


def read_scores(folder: RunFolder) -> dict[str, float]:
    """Read the scores of a run; none if there are none, or they are not ours."""
    try:
        scores = json.loads(folder.scores.read_text(encoding="utf-8"))["scores"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    numbers = scores.items() if isinstance(scores, dict) else ()
    return {name: value for name, value in numbers if isinstance(value, int | float)}


def as_csv(results: Sequence[dict[str, Any]]) -> str:
    """Write results as a table; settings and metrics that occur become columns."""
    names = dict.fromkeys(name for result in results for name in result)
    settings = [name for name in names if name.startswith(SETTING)]
    metrics = sorted(name for name in names if name.startswith(METRIC))
    text = StringIO(newline="")
    columns = [*FIRST, *settings, *LAST, *metrics]
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(results)
    return text.getvalue()


def as_page(results: Sequence[dict[str, Any]], title: str) -> str:
    """Write results as a page that needs no server and nothing from the net."""
    content = json.dumps({"title": title, "rows": list(results)}, ensure_ascii=False)
    # "</script>" and "<!--" would end the block; in JSON strings the escape means the same
    content = content.replace("<", "\\u003c")
    return TEMPLATE.read_text(encoding="utf-8").replace(PLACE, content)


def exit_code(results: Sequence[dict[str, Any]]) -> ExitCode:
    """Return the exit status of a batch that is over."""
    states = {result["state"] for result in results}
    if "failed" in states:
        return ExitCode.ROWS_FAILED
    return ExitCode.DONE if states <= {"done", "stopped", "cancelled"} else ExitCode.STOPPED
