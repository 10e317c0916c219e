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
    overrides: Overrides = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    quality: QualityOption = "standard",
    prompts: Annotated[
        int, typer.Option("--prompts", min=1, help="How many of the 48 prompts to run.")
    ] = 48,
    seed: Annotated[int, typer.Option("--seed", help="Of every prompt's run.")] = 0,
    folder: OutputOption = Path("runs/toybench"),
    device: DeviceOption = "auto",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Generate prompts of the toybox world and compare the GLBs with their ground truth.

    A bench that was stopped is continued by the same command.
    """
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.core.config import build
        from dreamlab.evaluation.toybench import BenchConfig, run
        from dreamlab.priors.toybox.judge import load_judge

        given = {"recipe": recipe, "quality": quality, "prompts": prompts, "seed": seed}
        config = build(BenchConfig, given | {"device": device, "overrides": overrides or []})
        judge = load_judge()
        with display(output) as show:
            bench = run(config, folder, judge, on_event=show)
        output.event("result", files=[str(path) for path in bench.files])
        output.text(bench.files[0].read_text(encoding="utf-8"))
        for path in bench.files:
            output.text(str(path))
