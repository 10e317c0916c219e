"""`dreamlab toybox ...`: the embedded prior and its world."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from dreamlab.cli.options import Overrides, check_picture
from dreamlab.cli.output import JsonOption, Output, QuietOption, output_of, reported
from dreamlab.cli.progress import Display, display
from dreamlab.core.config import build, parse_dotlist

group = typer.Typer(
    name="toybox",
    help="The embedded prior and its world: draw, train, judge.",
    no_args_is_help=True,
)

FolderOption = Annotated[
    Path | None,
    typer.Option("--model", metavar="FOLDER", help="Weights; those of the package if not given."),
]
PictureOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="Picture to write.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of what is drawn.")]


class StepShow:
    """Shows the steps of a training as those of a job are shown."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.phase = ""
        self.begin, self.first = 0.0, 0

    def __call__(self, phase: str, step: int, steps: int, values: Mapping[str, float]) -> None:
        """Show that a step is done; speed is measured from the first one of its phase."""
        from dreamlab.training.events import Event

        if phase != self.phase:
            self.phase, self.begin, self.first = phase, time.monotonic(), step
            self.display(Event("phase", {"phase": phase, "steps": steps}))
        seconds = time.monotonic() - self.begin
        rate = (step - self.first) / seconds if seconds > 0 else 0.0
        left = (steps - step) / rate if rate > 0 else None
        about = {"stage": phase, "step": step, "steps": steps, "rate": rate, "eta": left}
        self.display(Event("step", {**about, "metrics": dict(values)}))


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group.command("sample")(sample)
    group.command("world")(world)
    group.command("train")(train)
    group.command("train-views")(train_views)
    group.command("judge")(judge)
    group.command("evaluate")(evaluate)
    app.add_typer(group)


def sample(
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
    output = output_of(json, quiet)
    with reported(output):
        check_picture("--output", picture)
        import torch

        from dreamlab.core.pictures import save
        from dreamlab.priors.toybox.training.sample import PROMPTS, load_pipeline, sample_grid

        pipeline = load_pipeline(_weights(model), torch.device("cpu"))
        chosen = tuple(prompts) if prompts else PROMPTS
        sheet = sample_grid(pipeline, chosen, seed=seed, steps=steps, cfg_scale=guidance)
        save(sheet, picture)
        _tell_files(output, [picture])


def world(
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
    output = output_of(json, quiet)
    with reported(output):
        check_picture("--output", picture)
        from dreamlab.core.pictures import save
        from dreamlab.jobs.world_sheet import world_sheet

        sheet, captions = world_sheet(prompts or [], count=count, seed=seed)
        save(sheet, picture)
        for caption in captions:
            output.event("scene", caption=caption)
        _tell_files(output, [picture])


def train(
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
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.priors.toybox.training.session import TrainConfig
        from dreamlab.priors.toybox.training.train import train as run_training

        config = build(TrainConfig, parse_dotlist(overrides or []) | {"work": str(work)})
        with display(output) as show:
            steps = StepShow(show)
            run_training(config, lambda p: steps(p.phase, p.step, p.steps, p.values))
        _tell_files(output, [config.export or work])


def train_views(
    work: Annotated[
        Path, typer.Argument(help="Folder of the training; one that exists is continued.")
    ] = Path("training/toybox-views"),
    overrides: Overrides = None,
    model: FolderOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Teach the embedded prior to judge four views of an object at once; Ctrl-C may stop it.

    The same call continues where it was stopped. Weights are written to export=FOLDER in the end.
    """
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.priors.toybox.training.multi_view import MultiViewConfig
        from dreamlab.priors.toybox.training.multi_view import train as run_training

        given = {"work": str(work), "start": str(_weights(model))}
        config = build(MultiViewConfig, given | parse_dotlist(overrides or []))
        with display(output) as show:
            steps = StepShow(show)
            run_training(config, lambda p: steps(p.phase, p.step, p.steps, p.values))
        _tell_files(output, [config.export or work])


def judge(
    folder: Annotated[
        Path | None, typer.Argument(help="Where the weights go; into the package if not given.")
    ] = None,
    overrides: Overrides = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train the judge that `evaluate` and `bench toybench` ask; it is independent of the prior."""
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.priors.toybox.judge.network import FOLDER
        from dreamlab.priors.toybox.judge.train import JudgeConfig, train_judge

        config = build(JudgeConfig, parse_dotlist(overrides or []))
        target = folder or FOLDER
        target.mkdir(parents=True, exist_ok=True)
        with display(output) as show:
            steps = StepShow(show)
            train_judge(
                config,
                target,
                lambda step, loss: steps("judge", step + 1, config.steps, {"loss": loss}),
            )
        _tell_files(output, [target])


def evaluate(
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the results go.")
    ] = Path("runs/toybox-evaluation"),
    overrides: Overrides = None,
    model: FolderOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask an independent judge how well the prior draws objects, colours, views and relations.

    Settings: pictures, steps, cfg_scale, seed, ... as key=value.
    """
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.priors.toybox.judge.evaluate import EvaluateConfig
        from dreamlab.priors.toybox.judge.evaluate import evaluate as run_evaluation
        from dreamlab.priors.toybox.judge.network import load_judge
        from dreamlab.priors.toybox.judge.report import table, write_evaluation
        from dreamlab.training.events import Event

        config = build(EvaluateConfig, parse_dotlist(overrides or []))
        weights, judge = _weights(model), load_judge()
        with display(output) as show:
            show(Event("phase", {"phase": "evaluate", "steps": None}))
            begin = time.monotonic()
            evaluation = run_evaluation(
                config,
                weights,
                judge,
                on_progress=lambda part, fraction: show(
                    Event("progress", {"phase": "evaluate", "part": part, "fraction": fraction})
                ),
            )
            seconds = time.monotonic() - begin
            show(Event("phase_done", {"phase": "evaluate", "seconds": seconds}))
        output.text(table(evaluation))
        _tell_files(output, write_evaluation(evaluation, folder))


def _weights(model: Path | None) -> Path:
    """Return the folder of the prior's weights.

    Raises:
        MissingError: it is not there or not complete.
    """
    from dreamlab.priors.hub import locate
    from dreamlab.priors.load import resolve_model

    name = str(model) if model else "toybox"
    return locate(name, resolve_model(name).sources)


def _tell_files(output: Output, paths: Sequence[Path]) -> None:
    output.event("result", files=[str(path) for path in paths])
    for path in paths:
        output.text(str(path))
