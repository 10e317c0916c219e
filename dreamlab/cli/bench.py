"""`dreamlab bench ...`: measure quality against ground truth, and the speed of the kernels."""

from pathlib import Path
from typing import Annotated

import typer

from dreamlab.cli.options import DeviceOption, OutputOption, Overrides, QualityOption, RecipeOption
from dreamlab.cli.output import JsonOption, QuietOption, output_of, reported
from dreamlab.cli.progress import display
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE

group = typer.Typer(name="bench", help="Measure quality and speed here.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group.command("toybench")(toybench)
    app.add_typer(group)


def toybench(
    context: typer.Context,
    overrides: Overrides = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    quality: QualityOption = "standard",
    prompts: Annotated[
        int, typer.Option("--prompts", min=1, max=48, help="How many of the 48 prompts to run.")
    ] = 48,
    folder: OutputOption = Path("runs/toybench"),
    device: DeviceOption = "auto",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Generate prompts of the toybox world and compare the GLBs with their ground truth."""
    output = output_of(context, json, quiet)
    with reported(output):
        from dreamlab.evaluation.toybench import run_toybench

        with display(output) as show:
            written = run_toybench(
                recipe,
                quality,
                overrides or [],
                num_prompts=prompts,
                folder=folder,
                device=device,
                on_event=show,
            )
        output.event("result", files=[str(path) for path in written])
        for path in written:
            output.text(str(path))
