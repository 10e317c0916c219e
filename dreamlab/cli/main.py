"""The `dreamlab` command: its sub-commands and the options they share.

Nothing heavy is imported here, so that `--help` and shell completion answer at once.
"""

import os

# An OpenMP team that spins while it waits makes two threads many times slower than one on a busy
# machine; libgomp reads this variable when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from typing import Annotated

import typer

from dreamlab.cli import (
    batch,
    bench,
    blender,
    doctor,
    export,
    generate,
    image,
    jobs,
    layout,
    recipes,
    serve,
    toybox,
)
from dreamlab.cli.output import JsonOption, Output, QuietOption, set_shared
from dreamlab.core.version import VERSION

EXAMPLES = """
Examples:

  dreamlab generate "a red mushroom"

  dreamlab generate "a blue sphere on top of a yellow cube" --quality draft --seed 3

  dreamlab image "a red mushroom" --guidance sds

  dreamlab serve

  dreamlab export runs/20260102-030405-a-red-mushroom-0 --format stl

  dreamlab doctor
"""

app = typer.Typer(
    name="dreamlab",
    help="Text to 3D by score distillation: a sentence becomes a textured GLB.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"dreamlab {VERSION}")
        raise typer.Exit
    return wanted


@app.callback()
def _shared(
    json: JsonOption = False,
    quiet: QuietOption = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    set_shared(Output(json, quiet))


for module in (
    generate,
    image,
    layout,
    batch,
    jobs,
    serve,
    export,
    blender,
    recipes,
    doctor,
    toybox,
    bench,
):
    module.register(app)


def main() -> None:
    """Run the command line."""
    app(prog_name="dreamlab")
