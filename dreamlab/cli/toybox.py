"""`dreamlab toybox ...`: the embedded prior and its world."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamlab.cli.options import Overrides
from dreamlab.cli.output import JsonOption, Output, QuietOption, output_of, reported
from dreamlab.cli.progress import Display, display
from dreamlab.core.config import build, parse_dotlist

if TYPE_CHECKING:
    from dreamlab.priors.toybox.train import Progress

group = typer.Typer(
    name="toybox", help="The embedded prior: draw with it, train it, judge it.", no_args_is_help=True
)

FolderOption = Annotated[
    Path | None,
    typer.Option("--model", metavar="FOLDER", help="Weights; those of the package if not given."),
]
PictureOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="Picture to write.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of what is drawn.")]


class TrainingShow:
    """Shows the progress of a training of the prior as a job's is shown."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.phase = ""
        self.begin, self.first = 0.0, 0

    def __call__(self, progress: "Progress") -> None:
        from dreamlab.training.events import Event

        if progress.phase != self.phase:
            self.phase, self.begin = progress.phase, time.monotonic()
            self.first = progress.step
            self.display(Event("phase", {"phase": progress.phase, "steps": progress.steps}))
        seconds = time.monotonic() - self.begin
        rate = (progress.step - self.first) / seconds if seconds > 0 else 0.0
        left = (progress.steps - progress.step) / rate if rate > 0 else None
        values = {"step": progress.step, "steps": progress.steps, "rate": rate, "eta": left}
        self.display(Event("step", {"stage": progress.phase, **values, "metrics": progress.values}))


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group.command("sample")(sample)
    group.command("world")(world)
    group.command("train")(train)
    app.add_typer(group)


def sample(
    context: typer.Context,
    prompts: Annotated[
        list[str] | None, typer.Argument(help="What to draw; a fixed set of prompts if none.")
    ] = None,
    picture: PictureOption = Path("toybox-samples.png"),
    seed: SeedOption = 0,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Denoising steps.")] = 25,
    guidance: Annotated[float, typer.Option("--guidance", help="Guidance scale.")] = 4.0,
    model: FolderOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw pictures with the embedded prior, by the ordinary diffusers pipeline."""
    output = output_of(context, json, quiet)
    with reported(output):
        import torch

        from dreamlab.core.pictures import save
        from dreamlab.priors.hub import locate
        from dreamlab.priors.load import resolve_model
        from dreamlab.priors.toybox.sample import PROMPTS, load_pipeline, sample_grid

        name = str(model) if model else "toybox"
        pipeline = load_pipeline(locate(name, resolve_model(name).sources), torch.device("cpu"))
        chosen = tuple(prompts) if prompts else PROMPTS
        sheet = sample_grid(pipeline, chosen, seed=seed, steps=steps, cfg_scale=guidance)
        save(sheet, picture)
        _tell_file(output, picture)


def world(
    context: typer.Context,
    prompts: Annotated[
        list[str] | None, typer.Argument(help="Scenes to show; drawn at random if none.")
    ] = None,
    picture: PictureOption = Path("toybox-world.png"),
    seed: SeedOption = 0,
    count: Annotated[
        int, typer.Option("--count", min=1, max=400, help="Number of random scenes.")
    ] = 24,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show scenes of the toybox world as the prior's training images show them."""
    output = output_of(context, json, quiet)
    with reported(output):
        from dreamlab.core.pictures import save
        from dreamlab.jobs.world_sheet import world_sheet

        sheet, captions = world_sheet(prompts or [], count=count, seed=seed)
        save(sheet, picture)
        for caption in captions:
            output.event("scene", caption=caption)
        _tell_file(output, picture)


def train(
    context: typer.Context,
    work: Annotated[
        Path, typer.Argument(help="Folder of the training; one that exists is continued.")
    ] = Path("training/toybox"),
    overrides: Overrides = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train the embedded prior: autoencoder, then text encoder and U-Net; Ctrl-C may stop it.

    The same call continues where it was stopped. Weights are written to export=FOLDER in the end.
    """
    output = output_of(context, json, quiet)
    with reported(output):
        from dreamlab.priors.toybox.train import TrainConfig
        from dreamlab.priors.toybox.train import train as run_training

        config = build(TrainConfig, parse_dotlist(overrides or []) | {"work": str(work)})
        with display(output) as show:
            run_training(config, TrainingShow(show))
        _tell_file(output, config.export or work)


def _tell_file(output: Output, path: Path) -> None:
    output.event("result", files=[str(path)])
    output.text(str(path))
