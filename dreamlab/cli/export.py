"""`dreamlab export`: make the files of a run again, from its checkpoint."""

from typing import Annotated

import typer

from dreamlab.cli.options import DeviceOption, Overrides, RunArgument
from dreamlab.cli.output import JsonOption, QuietOption, output_of, reported
from dreamlab.cli.progress import display

EXAMPLES = """
Examples:

  dreamlab export runs/20260102-030405-a-red-mushroom-0

  dreamlab export runs/20260102-030405-a-red-mushroom-0 --format stl export.max_faces=5000
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("export", epilog=EXAMPLES)(export)


def export(
    run: RunArgument,
    overrides: Overrides = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help="glb, obj, ply, stl; with bpy also blend, fbx, usdz. May be given several times.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Export the model of a run again, with other settings or to other formats."""
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.jobs.export import export as export_run

        with display(output) as show:
            report = export_run(
                run, formats=formats, overrides=overrides or [], device=device, on_event=show
            )
        output.event("result", files=[str(path) for path in report.files])
        for path in report.files:
            output.text(str(path))
