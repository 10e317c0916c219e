"""`dreamlab doctor`: checks the machine and says what to do about each problem."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from dreamlab.cli.options import OutputOption
from dreamlab.cli.output import JsonOption, Output, QuietOption, output_of, reported
from dreamlab.core.config import to_plain
from dreamlab.core.errors import ExitCode

MARK_WIDTH = 7
MARKS = {
    "ok": "[green]ok[/green]     ",
    "note": "[cyan]note[/cyan]   ",
    "problem": "[red]PROBLEM[/red]",
}
AREA_WIDTH = 22


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("doctor")(doctor)


def doctor(
    folder: OutputOption = Path("runs"),
    network: Annotated[
        bool, typer.Option(help="Ask the model hub which models can be downloaded.")
    ] = True,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check Python, torch, Warp, packages, folders and models; exits with 3 if one is a problem."""
    output = output_of(json, quiet)
    with reported(output):
        problems = _examine(output, folder, network)
    if problems:
        raise typer.Exit(int(ExitCode.MISSING))


def _examine(output: Output, folder: Path, network: bool) -> int:
    from dreamlab.jobs.doctor import examine

    problems = 0
    for finding in examine(folder, network=network):
        problems += finding.status == "problem"
        output.event("finding", **to_plain(finding))
        found = escape(f"{finding.area:{AREA_WIDTH}} {finding.detail}")
        output.markup(f"{MARKS[finding.status]} {found}")
        if finding.fix:
            output.markup(" " * (MARK_WIDTH + AREA_WIDTH + 2) + escape(finding.fix))
    output.text(f"{problems} problems." if problems != 1 else "1 problem.")
    return problems
