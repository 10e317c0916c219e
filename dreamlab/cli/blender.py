"""`dreamlab blender ...`: dreamlab inside Blender."""

from pathlib import Path
from typing import Annotated

import typer

from dreamlab.cli.output import JsonOption, QuietOption, output_of, reported

group = typer.Typer(name="blender", help="Use dreamlab inside Blender.")
EXAMPLES = """
Examples:

  dreamlab blender package

  dreamlab blender package --output ~/Downloads
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(group, no_args_is_help=True)


@group.callback()
def _blender() -> None:
    pass


@group.command("package", epilog=EXAMPLES)
def package(
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the zip is written.")
    ] = Path(),
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write the Blender extension as a zip, to be installed from disk in Blender 4.2 or later."""
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.jobs.extension import write_extension

        path = write_extension(folder)
        output.event("result", file=str(path))
        output.text(str(path))
        output.note("In Blender: Edit > Preferences > Add-ons > Install from Disk.")
