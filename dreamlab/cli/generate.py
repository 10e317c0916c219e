"""`dreamlab generate` and `dreamlab resume`: from a sentence to a run folder with a GLB."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamlab.cli.options import (
    DeviceOption,
    OutputOption,
    Overrides,
    QualityOption,
    RecipeOption,
    RunArgument,
)
from dreamlab.cli.output import JsonOption, Output, QuietOption, output_of, reported
from dreamlab.cli.progress import display
from dreamlab.core.errors import ExitCode, InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE, read_recipe

if TYPE_CHECKING:
    from dreamlab.jobs.generate import Outcome
    from dreamlab.jobs.recipes import RunConfig

EXAMPLES = """
Examples:

  dreamlab generate "a red mushroom"

  dreamlab generate "a red mushroom" --quality draft --seed 3 export.max_faces=5000

  dreamlab generate --config runs/20260102-030405-a-red-mushroom-0/config.yaml

  dreamlab resume runs/20260102-030405-a-red-mushroom-0
"""
ASSIGNMENT = re.compile(r"[A-Za-z_][\w.\[\]-]*=")
DEFAULT_QUALITY = "standard"
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Another seed gives another result; 0 if not set.")
]
NegativeOption = Annotated[
    str | None, typer.Option("--negative", metavar="PROMPT", help="What it should not be.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("generate", epilog=EXAMPLES)(generate)
    app.command("resume")(resume)


def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(help="What to make, in quotes; not needed with --config."),
    ] = None,
    overrides: Overrides = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    quality: QualityOption = DEFAULT_QUALITY,
    seed: SeedOption = None,
    negative: NegativeOption = None,
    folder: OutputOption = Path("runs"),
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Repeat the run of a config.yaml."),
    ] = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a 3D model from a sentence: train, export a textured GLB, film a turntable.

    Ctrl-C stops the training, keeps it, and exports what is there.
    """
    output = output_of(json, quiet)
    with reported(output):
        words = list(overrides or [])
        if config is not None and prompt is not None and ASSIGNMENT.match(prompt):
            prompt, words = None, [prompt, *words]
        if config is None:
            check_words(prompt, words, "generate")
            read_recipe(recipe)  # a misspelt name is refused before the slow imports
        from dreamlab.jobs.recipes import load_recipe, load_run_config

        if config is None:
            resolved = load_recipe(
                recipe,
                quality,
                words,
                prompt=prompt or "",
                negative_prompt=negative or "",
                seed=seed or 0,
            )
        else:
            if (recipe, quality) != (DEFAULT_RECIPE, DEFAULT_QUALITY):
                raise InputError(
                    "--config already holds a resolved recipe; --recipe and --quality would have "
                    "no effect.",
                    "leave them out, or leave --config out.",
                )
            resolved = load_run_config(
                config, words, prompt=prompt, negative_prompt=negative, seed=seed
            )
        start(output, resolved, folder, device)


def check_words(prompt: str | None, words: list[str], command: str) -> None:
    """Refuse a prompt that is missing, not first or not in quotes.

    Raises:
        InputError: it is one of these.
    """
    if prompt is None:
        raise InputError(
            "there is no prompt.", f'say what to make: dreamlab {command} "a red mushroom".'
        )
    if ASSIGNMENT.match(prompt):
        raise InputError(
            f"{prompt!r} stands where the prompt should.", "put the prompt first, in quotes."
        )
    for word in words:
        if "=" not in word:
            raise InputError(
                f"{word!r} is not of the form key=value.",
                f'quote the prompt: dreamlab {command} "{prompt} {word} …".',
            )


def resume(
    run: RunArgument,
    device: DeviceOption = "auto",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Continue a run that was stopped or broke off, from its last checkpoint."""
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.jobs.generate import resume as resume_job

        folder = RunFolder.open(run)
        _watch(output, lambda **watching: resume_job(folder, device=device, **watching))


def start(output: Output, config: "RunConfig", parent: Path, device: str) -> None:
    """Run a job in a new folder under `parent`, and tell what it made."""
    from dreamlab.jobs.device import pick_device
    from dreamlab.jobs.generate import generate as generate_job
    from dreamlab.jobs.generate import prepare
    from dreamlab.jobs.recipes import words_unknown_to_prior

    for word, near in words_unknown_to_prior(config).items():
        hint = f"; it knows {', '.join(near)}" if near else ""
        output.warn(f"the model {config.prior.model!r} does not know the word {word!r}{hint}.")
    if config.layout is not None:
        objects = "; ".join(box.prompt for box in config.layout.boxes)
        output.note(f"a box for each of: {objects} (layout=null goes without)")
    pick_device(device)  # before the folder is made
    folder = prepare(config, parent)
    output.event("run", folder=str(folder.root))
    output.note(str(folder.root))
    _watch(output, lambda **watching: generate_job(config, folder, device=device, **watching))


def _watch(output: Output, job: "Callable[..., Outcome]") -> None:
    """Run a job under a progress display; Ctrl-C stops it in good order."""
    from dreamlab.training.stop import StopFlag, stop_on_signals

    with display(output) as show, stop_on_signals(StopFlag()) as stop:
        outcome = job(stop=stop, on_event=show)
    files = [str(path) for path in outcome.files]
    output.event(
        "result", folder=str(outcome.folder.root), files=files, stopped=outcome.was_stopped
    )
    for path in files:
        output.text(path)
    if outcome.was_stopped:
        output.note(f"stopped; to continue: dreamlab resume {outcome.folder.root}")
        raise typer.Exit(int(ExitCode.STOPPED))
