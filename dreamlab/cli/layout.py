"""`dreamlab layout ...`: a first layout for a prompt, as YAML and as a picture."""

import json as json_module
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from dreamlab.cli.options import check_picture
from dreamlab.cli.output import JsonOption, QuietOption, output_of, reported
from dreamlab.core.errors import InputError

if TYPE_CHECKING:
    from dreamlab.core.layout import Layout

DRAW = "draw"
HELP = ("-h", "--help")
EXAMPLES = """
Examples:

  dreamlab layout "a red mushroom next to a blue car" > scene.yaml

  dreamlab layout scene.yaml --picture scene.png

  dreamlab layout import normalized.json > scene.yaml

  dreamlab layout plan "a cat on a table" --llm http://127.0.0.1:11434/v1 --model llama3.1

  dreamlab generate "a red mushroom next to a blue car" layout=scene.yaml
"""
PictureOption = Annotated[
    Path, typer.Option("--picture", "-p", metavar="FILE", help="Where the boxes are drawn.")
]
PICTURE = Path("layout.png")


class _Drawing(TyperGroup):
    """A group of commands in which what is none of them is given to `draw`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_named = bool(args) and (args[0] in self.commands or args[0] in HELP)
        return super().parse_args(ctx, args if is_named else [DRAW, *args])


group = typer.Typer(
    name="layout",
    cls=_Drawing,
    help="Arrange the objects of a prompt in boxes: `dreamlab layout PROMPT|FILE`, or a command.",
    epilog=EXAMPLES,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for name, command in ((DRAW, draw), ("import", import_file), ("plan", plan)):
        group.command(name, epilog=EXAMPLES)(command)
    app.add_typer(group)


def draw(
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT|FILE",
            help="What to arrange, in quotes; or a layout (.yaml, .json, .txt) to check and draw.",
        ),
    ] = None,
    picture: PictureOption = PICTURE,
    schema: Annotated[
        bool, typer.Option("--schema", help="Write the JSON Schema of layouts and end.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Print a layout as YAML and draw its boxes from several sides; `draw` may be left out.

    Words are read by rules: on top of, on, under, next to, left of, right of, in front of, behind,
    and, two to six of a kind. Save it, edit it, and give it to `dreamlab generate` as layout=FILE.
    """
    if schema:
        from dreamlab.jobs.layouts.schema import layout_schema

        typer.echo(json_module.dumps(layout_schema(), indent=2))
        return

    def read() -> "Layout":
        if prompt is None:
            raise InputError(
                "there is no prompt.", 'say what to arrange: dreamlab layout "a cat on a table".'
            )
        from dreamlab.jobs.layouts.given import read_layout

        return read_layout(prompt, prompt)

    _show(read, picture, json, quiet)


def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            help="A layout of SemanticSDS (normalized.json) or of LucidDreaming (.txt).",
            show_default=False,
        ),
    ],
    picture: PictureOption = PICTURE,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Print a layout of another program as YAML, in our units, and draw its boxes."""

    def read() -> "Layout":
        from dreamlab.jobs.layouts.files import load_layout

        return load_layout(file)

    _show(read, picture, json, quiet)


def plan(
    prompt: Annotated[str, typer.Argument(help="What to arrange.", show_default=False)],
    llm: Annotated[
        str,
        typer.Option(
            "--llm",
            metavar="URL",
            help="OpenAI-compatible server, such as http://127.0.0.1:11434/v1: https, or this "
            "machine.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", help="As the server knows it.", show_default=False)
    ],
    key_env: Annotated[
        str | None,
        typer.Option(
            "--key-env", metavar="NAME", help="Environment variable that holds the server's key."
        ),
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="SECONDS", help="For one answer.")
    ] = 120.0,
    picture: PictureOption = PICTURE,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask a language model for a layout; print it as YAML and draw its boxes.

    The prompt, the schema of layouts and the name of the model go to the server that you name, and
    nothing goes anywhere else. The answer is data, read as a file is.
    """

    def read() -> "Layout":
        from dreamlab.jobs.layouts import planner
        from dreamlab.jobs.layouts.chat import Endpoint, key_from

        key = None if key_env is None else key_from(key_env)
        return planner.plan(prompt, Endpoint(llm, model, key, time_limit))

    _show(read, picture, json, quiet)


def _show(read: Callable[[], "Layout"], picture: Path, json: bool, quiet: bool) -> None:
    """Print what is read and draw it."""
    output = output_of(json, quiet)
    with reported(output):
        check_picture("--picture", picture)
        from dreamlab.core.config import dump_yaml, to_plain
        from dreamlab.core.pictures import save
        from dreamlab.jobs.layouts.picture import draw_layout

        found = read()
        content = to_plain(found)
        save(draw_layout(found), picture)
        output.event("layout", picture=str(picture), **content)
        output.text(dump_yaml(content).rstrip())
