"""`dreamlab layout`: a first layout for a prompt, as YAML and as a picture."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from dreamlab.cli.output import JsonOption, QuietOption, output_of, reported
from dreamlab.core.errors import InputError

EXAMPLES = """
Examples:

  dreamlab layout "a red mushroom next to a blue car" > scene.yaml

  dreamlab layout scene.yaml --picture scene.png

  dreamlab generate "a red mushroom next to a blue car" -r toybox-semantic layout=scene.yaml
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("layout", epilog=EXAMPLES)(layout)


def layout(
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT|FILE",
            help="What to arrange, in quotes; or a layout (.yaml, .json) to check and draw.",
        ),
    ] = None,
    picture: Annotated[
        Path, typer.Option("--picture", "-p", metavar="FILE", help="Where the boxes are drawn.")
    ] = Path("layout.png"),
    schema: Annotated[
        bool, typer.Option("--schema", help="Write the JSON Schema of layouts and end.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Print a layout as YAML and draw its boxes from several sides.

    Words are read by rules: on top of, on, under, next to, left of, right of, in front of, behind,
    and, two to six of a kind. Save it, edit it, and give it to `dreamlab generate` as layout=FILE.
    """
    output = output_of(json, quiet)
    with reported(output):
        if schema:
            from dreamlab.jobs.layouts.schema import layout_schema

            typer.echo(json_module.dumps(layout_schema(), indent=2))
            return
        if prompt is None:
            raise InputError(
                "there is no prompt.", 'say what to arrange: dreamlab layout "a cat on a table".'
            )
        if picture.suffix.lower() != ".png":
            raise InputError(f"--picture is {picture}, which is no PNG.", "end it in .png.")
        from dreamlab.core.config import dump_yaml, to_plain
        from dreamlab.core.pictures import save
        from dreamlab.jobs.layouts.given import read_layout
        from dreamlab.jobs.layouts.picture import draw_layout

        found = read_layout(prompt, prompt)
        content = to_plain(found)
        save(draw_layout(found), picture)
        output.event("layout", picture=str(picture), **content)
        output.text(dump_yaml(content).rstrip())
