"""`dreamlab batch`: a file of prompts becomes a folder of models with a contact sheet."""

import json as json_module
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from dreamlab.cli.options import (
    DeviceOption,
    Overrides,
    RayOption,
    WorkersOption,
    complete_quality,
    complete_recipe,
)
from dreamlab.cli.output import JsonOption, Output, QuietOption, output_of, reported
from dreamlab.cli.progress import Teller, display
from dreamlab.core.errors import ExitCode, InputError
from dreamlab.core.run_folder import slug

if TYPE_CHECKING:
    from dreamlab.jobs.batch.estimate import Estimate
    from dreamlab.jobs.batch.plan import Plan
    from dreamlab.jobs.batch.results import Results
    from dreamlab.jobs.queue.process import Starter
    from dreamlab.jobs.queue.ray_cluster import Share
    from dreamlab.training.events import Event

EXAMPLES = """
Examples:

  dreamlab batch prompts.txt --quality draft

  dreamlab batch matrix.yaml --dry-run

  dreamlab batch table.csv --workers 2 --output runs/table export.max_faces=5000

  dreamlab batch matrix.yaml --ray auto --output /shared/matrix

The same command goes on with a batch that was stopped, and tries rows that failed once more.
"""
RUNS = Path("runs")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("batch", epilog=EXAMPLES)(batch)


def batch(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A .yaml, .csv or .jsonl file of rows, or a .txt file with one prompt a line.",
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            metavar="NAME",
            help="Of rows that do not name one.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    quality: Annotated[
        str | None,
        typer.Option(
            "--quality",
            metavar="NAME",
            help="Of rows that do not name one.",
            autocompletion=complete_quality,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where the batch lies; runs/batch-<name of the file> if not given.",
        ),
    ] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    ray: RayOption = None,
    ray_cpus: Annotated[
        float | None,
        typer.Option("--ray-cpus", metavar="N", min=0.0, help="CPUs a row takes; 1 if not given."),
    ] = None,
    ray_gpus: Annotated[
        float | None,
        typer.Option(
            "--ray-gpus",
            metavar="N",
            min=0.0,
            help="GPUs a row takes, 0.5: half of one; 1 if not given, 0 if the cluster has none.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show all rows and what they take; run nothing.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Put the metrics of the training into the results.")
    ] = False,
    score: Annotated[
        str | None,
        typer.Option(
            "--score",
            metavar="MODEL",
            help="Let an image-text model look at every export: judge, the embedded one, or a "
            "folder or hub id of CLIP.",
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Write the JSON Schema of batch files and end.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a model for every row of a file: prompts, seeds, recipes and settings in any mixture.

    A row that fails harms no other one. Ctrl-C stops in good order.
    """
    output = output_of(json, quiet)
    with reported(output):
        if schema:
            from dreamlab.jobs.batch.schema import batch_schema

            typer.echo(json_module.dumps(batch_schema(), indent=2))
            return
        if file is None:
            raise InputError("there is no file.", "say which: dreamlab batch prompts.txt.")
        share = share_of(ray, ray_cpus, ray_gpus, device)
        from dreamlab.jobs.batch.files import read_rows

        common = {"recipe": recipe, "quality": quality}
        given = {key: value for key, value in common.items() if value is not None}
        rows = read_rows(file, given)  # a misspelt key is refused before the slow imports
        from dreamlab.jobs.batch.plan import make_plan

        plan = make_plan(rows, overrides or [])
        place = folder or RUNS / f"batch-{slug(file.stem)}"
        for number, earlier in plan.repeated:
            output.warn(f"row {number} asks for the same as row {earlier}; it is made once.")
        if dry_run:
            _show(output, plan, place, workers or 1)
            return
        if score is not None:
            from dreamlab.evaluation.scores import find_model

            find_model(score)
        with places(place, device, workers, ray, share) as found:
            results = _run(output, plan, place, file.stem, metrics, *found)
        if score is not None:
            results = _score(output, results, score)
        _report(output, results)


def _show(output: Output, plan: "Plan", place: Path, workers: int) -> None:
    from dreamlab.jobs.batch.estimate import estimate_all
    from dreamlab.jobs.batch.results import Results

    estimates = estimate_all(plan.rows, [place, RUNS])
    done = Results(place, plan.rows, "", metrics=False).gather()
    table = Table("row", "prompt", "seed", "recipe", "settings", "takes", "state")
    table.columns[4].overflow = "fold"
    for planned, estimate, result in zip(plan.rows, estimates, done, strict=True):
        row = planned.row
        asked = {"prompt": row.prompt, "negative_prompt": row.negative_prompt, "seed": row.seed}
        asked |= {"recipe": row.recipe, "quality": row.quality, "settings": row.settings}
        figures = {"seconds": estimate.seconds, "memory_gb": estimate.memory_gb}
        about = {"state": result["state"], "reason": result.get("reason", "")}
        output.event("row", row=planned.number, **asked, **figures, source=estimate.source, **about)
        cells = (
            str(planned.number),
            row.prompt or row.where,
            str(row.seed),
            f"{row.recipe} {row.quality}",
            "\n".join(row.overrides),
            _figures(estimate),
            about["state"] + (f": {about['reason']}" if planned.error else ""),
        )
        table.add_row(*map(escape, cells))
    output.table(table)
    left = [
        estimate
        for estimate, result in zip(estimates, done, strict=True)
        if result["state"] in ("queued", "running")
    ]
    known = [estimate.seconds for estimate in left if estimate.seconds is not None]
    total = sum(known) / workers
    output.event("result", rows=len(plan.rows), left=len(left), estimated=len(known), seconds=total)
    output.text(
        f"{len(plan.rows)} rows, {len(left)} to run; about {_duration(total)} with {workers} at a "
        f"time, as far as is known ({len(known)} of {len(left)} rows)."
    )
    for source in dict.fromkeys(estimate.source for estimate in left):
        output.text(f"estimated from: {source}")
    if any(row.error for row in plan.rows):
        raise typer.Exit(int(ExitCode.ROWS_FAILED))


def _figures(estimate: "Estimate") -> str:
    if estimate.seconds is None:
        return "?"
    memory = f", {estimate.memory_gb:.1f} GB" if estimate.memory_gb else ""
    return _duration(estimate.seconds) + memory


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def share_of(
    ray: str | None, cpus: float | None, gpus: float | None, device: str
) -> "Share | None":
    """Read what a row takes of a cluster; None: there is none."""
    if ray is None:
        if (cpus, gpus) != (None, None):
            raise InputError(
                "--ray-cpus and --ray-gpus are about a cluster.", "say which one with --ray."
            )
        return None
    if device != "auto":
        raise InputError(
            f"--device {device} cannot be kept by a cluster.",
            "use --ray-gpus 1 for rows on graphics cards, --ray-gpus 0 for rows on the CPU.",
        )
    from dreamlab.jobs.queue.ray_cluster import Share

    return Share(1.0 if cpus is None else cpus, gpus)


@contextmanager
def places(
    place: Path, device: str, workers: int | None, ray: str | None, share: "Share | None"
) -> Iterator[tuple[list[str], "Starter | None"]]:
    """Find where rows are run: the device of each at a time, and what starts them."""
    if ray is None or share is None:
        from dreamlab.jobs.queue.devices import find_devices, slots

        yield slots(find_devices() if device == "auto" else [device], workers), None
        return
    from dreamlab.jobs.batch.run import make_folder
    from dreamlab.jobs.queue.ray_cluster import connected

    with connected(ray, share) as cluster:
        make_folder(place)
        cluster.check(place)
        yield cluster.slots(workers), cluster.start


def _run(
    output: Output,
    plan: "Plan",
    place: Path,
    title: str,
    metrics: bool,
    devices: list[str],
    start: "Starter | None",
) -> "Results":
    from dreamlab.jobs.batch.run import carry_out
    from dreamlab.training.stop import StopFlag, stop_on_signals

    output.event("batch", folder=str(place), rows=len(plan.rows))
    output.note(f"{len(plan.rows)} rows in {place}")
    with stop_on_signals(StopFlag()) as stop:
        return carry_out(
            plan,
            place,
            devices,
            title=title,
            stop=stop,
            metrics=metrics,
            on_event=lambda event: tell(output, event),
            start=start,
        )


def _score(output: Output, results: "Results", model: str) -> "Results":
    """Let a model look at what was made, and write the results anew."""
    from dreamlab.core.run_folder import RunFolder
    from dreamlab.evaluation.scores import Made, load_scorer, score_runs

    rows = [row for row in results.gather() if "glb" in row]
    made = [Made(RunFolder(results.folder / row["run"]), row["prompt"]) for row in rows]
    with display(output) as show:
        tell_score = Teller(show)
        problems = score_runs(
            made, load_scorer(model), lambda done: tell_score("score", done / len(made))
        )
    for problem in problems:
        output.warn(f"no scores: {problem}")
    return results.renewed()


def _report(output: Output, followed: "Results") -> None:
    """Tell what came of the rows, and leave with the exit status that says so."""
    from dreamlab.jobs.batch.results import exit_code

    place, results = followed.folder, followed.gather()
    for result in results:
        if result["state"] == "failed":
            output.warn(f"row {result['row']} failed: {result['reason']}")
    counts = {s: sum(r["state"] == s for r in results) for s in {r["state"] for r in results}}
    names = ("index.html", "results.csv", "results.jsonl")
    files = [str(place / name) for name in names]
    output.event("result", folder=str(place), files=files, states=counts)
    output.note(", ".join(f"{number} {name}" for name, number in sorted(counts.items())))
    for path in files:
        output.text(path)
    code = exit_code(results)
    if code == ExitCode.STOPPED:
        output.note("not complete; the same command goes on.")
    if code:
        raise typer.Exit(int(code))


def tell(output: Output, event: "Event") -> None:
    """Show what a supervisor tells: workers that begin and end, and warnings."""
    values = event.values
    if event.kind == "warning":
        output.warn(values["message"])
        return
    output.event(event.kind, **values)
    what = f"row {values['row']} {Path(values['run']).name}" if "row" in values else values["run"]
    if event.kind == "begin":
        output.note(f"{what}: begins on {values['device']}")
    else:
        reason = f" ({values['reason']})" if values["reason"] else ""
        output.note(f"{what}: {values['state']}{reason}")
