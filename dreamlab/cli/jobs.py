"""`dreamlab jobs ...` and `dreamlab work`: the queue of runs, and the supervisor that does it."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from dreamlab.cli.batch import tell
from dreamlab.cli.options import (
    DeviceOption,
    OutputOption,
    Overrides,
    QualityOption,
    RecipeOption,
    RunArgument,
    WorkersOption,
)
from dreamlab.cli.output import JsonOption, QuietOption, output_of, reported
from dreamlab.core.config import to_plain
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE, read_recipe

if TYPE_CHECKING:
    from dreamlab.jobs.state import Job

RUNS = Path("runs")
group = typer.Typer(name="jobs", help="Look at runs, and queue, stop, resume or delete them.")
EXAMPLES = """
Examples:

  dreamlab jobs submit "a red mushroom" --quality draft

  dreamlab work --quota 50

  dreamlab jobs list --state running --state queued

  dreamlab jobs rerun runs/20260102-030405-a-red-mushroom-0 --seed 3
"""
RunsArgument = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)
]
PriorityOption = Annotated[
    int, typer.Option("--priority", "-p", help="Higher ones are begun first.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for name in ("list", "submit", "stop", "pause", "resume", "cancel", "duplicate", "rerun"):
        group.command(name, epilog=EXAMPLES)(COMMANDS[name])
    for name in ("priority", "keep", "delete"):
        group.command(name)(COMMANDS[name])
    app.add_typer(group, no_args_is_help=True)
    app.command("work", epilog=EXAMPLES)(work)


def show_list(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="Words to search for.")
    ] = None,
    states: Annotated[
        list[str] | None, typer.Option("--state", help="Only these; may be given several times.")
    ] = None,
    favourites: Annotated[bool, typer.Option("--favourites", help="Only these.")] = False,
    order: Annotated[
        str, typer.Option("--order", metavar="newest|oldest|prompt|queue", help="How to sort.")
    ] = "newest",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Runs of a page.")] = 20,
    page: Annotated[int, typer.Option("--page", min=1, help="Which page.")] = 1,
    folder: OutputOption = RUNS,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List runs: those in a folder, found by words, state or mark."""
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.jobs.queue.index import Index

        found = Index(folder).search(
            " ".join(words or []),
            states=states or (),
            only_favourites=favourites,
            order=order,
            offset=(page - 1) * limit,
            limit=limit,
        )
        table = Table("run", "state", "prompt", "seed", "recipe", "phase or reason", "created")
        for entry in found.entries:
            output.event("run", **to_plain(entry))
            created = datetime.fromtimestamp(entry.created).strftime("%Y-%m-%d %H:%M")
            about = entry.reason or (entry.phase if entry.state == "running" else "")
            mark = " *" if entry.is_favourite else ""
            cells = (entry.root.name + mark, entry.state, entry.prompt, str(entry.seed))
            made_by = f"{entry.recipe} {entry.quality}"
            table.add_row(*map(escape, (*cells, made_by, about, created)))
        output.event("result", total=found.total, page=page)
        output.table(table)
        output.note(f"{len(found.entries)} of {found.total} runs")


def submit(
    prompt: Annotated[str, typer.Argument(help="What to make, in quotes.", show_default=False)],
    overrides: Overrides = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    quality: QualityOption = "standard",
    seed: Annotated[int, typer.Option("--seed", help="Of every random number.")] = 0,
    negative: Annotated[
        str, typer.Option("--negative", metavar="PROMPT", help="What it should not be.")
    ] = "",
    priority: PriorityOption = 0,
    folder: OutputOption = RUNS,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Queue a run; `dreamlab work` carries it out."""
    output = output_of(json, quiet)
    with reported(output):
        read_recipe(recipe)  # a misspelt name is refused before the slow imports
        from dreamlab.jobs.queue import actions
        from dreamlab.jobs.recipes import load_recipe

        config = load_recipe(
            recipe, quality, overrides or [], prompt=prompt, negative_prompt=negative, seed=seed
        )
        run = actions.submit(config, folder, priority=priority)
        output.event("run", folder=str(run.root))
        output.text(str(run.root))


def stop(runs: RunsArgument, json: JsonOption = False, quiet: QuietOption = False) -> None:
    """End runs after their step, keep what they have and export it."""
    from dreamlab.jobs.queue import actions

    _each(runs, lambda run: actions.request(run, "stop"), json, quiet)


def pause(runs: RunsArgument, json: JsonOption = False, quiet: QuietOption = False) -> None:
    """End runs after their step, with a checkpoint and without an export, until `resume`."""
    from dreamlab.jobs.queue import actions

    _each(runs, lambda run: actions.request(run, "pause"), json, quiet)


def cancel(runs: RunsArgument, json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Give runs up; nothing is exported, the checkpoint stays for a while."""
    from dreamlab.jobs.queue import actions

    _each(runs, lambda run: actions.request(run, "cancel"), json, quiet)


def resume(runs: RunsArgument, json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Queue runs again that were paused, stopped or cancelled, or have failed."""
    from dreamlab.jobs.queue import actions

    _each(runs, actions.resume, json, quiet)


def priority(
    runs: RunsArgument,
    priority: PriorityOption,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Change when queued runs have their turn."""
    from dreamlab.jobs.queue import actions

    _each(runs, lambda run: actions.set_priority(run, priority), json, quiet)


def keep(
    runs: RunsArgument,
    favourite: Annotated[
        bool, typer.Option("--yes/--no", help="Mark as favourite, or remove the mark.")
    ] = True,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Mark runs as favourites: nothing is removed from them to save space."""
    from dreamlab.jobs.queue import actions

    _each(runs, lambda run: actions.set_favourite(run, favourite), json, quiet)


def delete(runs: RunsArgument, json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Remove runs with all their files."""
    from dreamlab.jobs.queue import actions

    _each(runs, actions.delete, json, quiet)


def duplicate(runs: RunsArgument, json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Queue runs once more with the same settings."""
    from dreamlab.jobs.queue import actions

    _each(runs, actions.duplicate, json, quiet)


def rerun(
    run: RunArgument,
    overrides: Overrides = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="What to make instead.")] = None,
    negative: Annotated[
        str | None, typer.Option("--negative", metavar="PROMPT", help="What it should not be.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Another seed.")] = None,
    priority: PriorityOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Queue a run once more with changes."""
    from dreamlab.jobs.queue import actions

    def again(folder: RunFolder) -> RunFolder:
        return actions.rerun(
            folder,
            overrides or [],
            prompt=prompt,
            negative_prompt=negative,
            seed=seed,
            priority=priority,
        )

    _each([run], again, json, quiet)


def _each(
    runs: list[Path],
    act: "Callable[[RunFolder], Job | RunFolder | None]",
    json: bool,
    quiet: bool,
) -> None:
    """Do something with each run, and say what it came to."""
    output = output_of(json, quiet)
    with reported(output):
        for folder in [RunFolder.open(run) for run in runs]:
            result = act(folder)
            if isinstance(result, RunFolder):
                output.event("run", folder=str(result.root))
                output.text(str(result.root))
            elif result is None:
                output.event("result", folder=str(folder.root))
            else:
                output.event("result", folder=str(folder.root), state=result.state)
                waits = " (it will end after its step)" if result.state == "running" else ""
                output.text(f"{folder.root}: {result.state}{waits}")


COMMANDS: dict[str, Callable[..., None]] = {
    "list": show_list,
    "submit": submit,
    "stop": stop,
    "pause": pause,
    "resume": resume,
    "cancel": cancel,
    "duplicate": duplicate,
    "rerun": rerun,
    "priority": priority,
    "keep": keep,
    "delete": delete,
}


def work(
    folder: OutputOption = RUNS,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when no queued run is left.")
    ] = False,
    quota: Annotated[
        float | None,
        typer.Option("--quota", metavar="GB", min=0.0, help="Most that all runs may take."),
    ] = None,
    checkpoint_days: Annotated[
        float | None,
        typer.Option(
            "--checkpoint-days",
            metavar="DAYS",
            min=0.0,
            help="Remove checkpoints of runs that are done for so long.",
        ),
    ] = None,
    model_days: Annotated[
        float,
        typer.Option(
            "--model-days",
            metavar="DAYS",
            min=0.0,
            help="Remove uploaded models that no run has used for so long.",
        ),
    ] = 30.0,
    delete_runs: Annotated[
        bool,
        typer.Option(
            "--delete-runs",
            help="Remove whole finished runs, but no favourites, where the quota demands it.",
        ),
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Carry out queued runs, one worker process a device, until Ctrl-C; lost ones are taken up.

    On Ctrl-C and SIGTERM workers write a checkpoint and hand their runs back to the queue.
    """
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.jobs.queue.devices import find_devices, slots
        from dreamlab.jobs.queue.presence import present
        from dreamlab.jobs.queue.retention import Retention
        from dreamlab.jobs.queue.supervisor import Supervisor
        from dreamlab.training.stop import StopFlag, stop_on_signals

        folder.mkdir(parents=True, exist_ok=True)
        with present(folder):
            devices = slots(find_devices() if device == "auto" else [device], workers)
            supervisor = Supervisor(
                folder,
                devices,
                retention=Retention(quota, checkpoint_days, model_days, delete_runs),
                on_event=lambda event: tell(output, event),
            )
            output.event("work", folder=str(folder), devices=devices)
            output.note(f"working in {folder} on {', '.join(devices)}; Ctrl-C ends it")
            with stop_on_signals(StopFlag()) as flag:
                supervisor.run(flag, until_idle=until_idle)
