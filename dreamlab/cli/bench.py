"""`dreamlab bench ...`: measure quality against ground truth, and the speed of the kernels."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dreamlab.cli.options import (
    DeviceOption,
    OutputOption,
    Overrides,
    QualityOption,
    RayOption,
    RecipeOption,
    WorkersOption,
    check_picture,
)
from dreamlab.cli.output import JsonOption, QuietOption, output_of, reported
from dreamlab.cli.progress import Teller, display
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE

if TYPE_CHECKING:
    from dreamlab.evaluation.speed.figures import Figure

group = typer.Typer(name="bench", help="Measure quality and speed here.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group.command("toybench")(toybench)
    group.command("compare")(compare)
    group.command("ops")(ops)
    group.command("backends")(backends)
    group.command("growth")(growth)
    group.command("pgc")(pgc)
    group.command("api")(api)
    group.command("batch")(batch)
    app.add_typer(group)


def toybench(
    overrides: Overrides = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    quality: QualityOption = "standard",
    prompts: Annotated[
        int, typer.Option("--prompts", min=1, help="How many of the prompts to run.")
    ] = 48,
    objects: Annotated[
        str,
        typer.Option(
            "--objects",
            help="any, one, several, front (one with a front and a back): which of the 48 prompts, "
            "by their objects; three: 8 others, of three objects each.",
        ),
    ] = "any",
    seed: Annotated[int, typer.Option("--seed", help="Of every prompt's run.")] = 0,
    folder: OutputOption = Path("runs/toybench"),
    workers: Annotated[
        int, typer.Option("--workers", "-j", min=1, metavar="N", help="Prompts at a time.")
    ] = 1,
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
        from dreamlab.priors.toybox.judge.network import load_judge

        given = {"recipe": recipe, "quality": quality, "prompts": prompts, "seed": seed}
        given |= {"objects": objects, "workers": workers}
        config = build(BenchConfig, given | {"device": device, "overrides": overrides or []})
        judge = load_judge()
        with display(output) as show:
            bench = run(config, folder, judge, on_event=show)
        output.event("result", files=[str(path) for path in bench.files])
        output.text(bench.files[0].read_text(encoding="utf-8"))
        for path in bench.files:
            output.text(str(path))


def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="What `bench toybench` wrote.")
    ],
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Put benches of prompts beside each other, over the prompts that all of them have."""
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.evaluation.tables import comparison
        from dreamlab.evaluation.toybench import load_rows

        table = comparison([load_rows(folder) for folder in folders])
        output.event("result", table=table)
        output.text(table)


def ops(
    overrides: Overrides = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    points: Annotated[
        int, typer.Option("--points", min=1, help="Points that the hash grid encodes.")
    ] = 160_000,
    gaussians: Annotated[
        int, typer.Option("--gaussians", min=1, help="Gaussians that are splatted.")
    ] = 20_000,
    cells: Annotated[
        int, typer.Option("--cells", min=2, help="Cells an axis of the grid that is marched.")
    ] = 51,
    warm_up: Annotated[
        int, typer.Option("--warm-up", min=1, help="Training steps before a stage is timed.")
    ] = 100,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Timed calls a figure, at least; their median.")
    ] = 5,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time kernels against plain torch, and the recipe's step against its guidance, on the CPU.

    Figures are ratios of CPU time in this process; take them on an idle machine all the same.
    """
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.core.config import build
        from dreamlab.evaluation.speed.suite import SpeedConfig, machine, measure

        given = {"recipe": recipe, "points": points, "gaussians": gaussians, "cells": cells}
        given |= {"warm_up": warm_up, "repeats": repeats}
        config = build(SpeedConfig, given | {"overrides": overrides or []})
        about = machine()
        output.event("machine", **about)
        figures: list[Figure] = []
        for figure in measure(config):
            figures.append(figure)
            output.event("figure", **figure.plain)
            output.note(f"{figure.what}: {_written(figure)}")
        output.event("result", met=sum(f.is_met for f in figures), figures=len(figures))
        output.table(_table(figures))
        output.text(_machine_line(about))


def backends(
    points: Annotated[
        int, typer.Option("--points", min=1, help="Points that the hash grid encodes.")
    ] = 160_000,
    gaussians: Annotated[
        int, typer.Option("--gaussians", min=1, help="Gaussians that are splatted.")
    ] = 20_000,
    size: Annotated[
        int, typer.Option("--size", min=1, help="Height and width of pictures, pixels.")
    ] = 128,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Timed calls of each, at least; their median.")
    ] = 5,
    device: DeviceOption = "auto",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time every implementation of hash grid, triangles, textures and splats that runs on a device.

    On a graphics card tiny-cuda-nn, nvdiffrast and gsplat take part where they are installed.
    """
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.core.config import build
        from dreamlab.evaluation.speed.contest import ContestConfig, contests
        from dreamlab.evaluation.speed.suite import machine
        from dreamlab.jobs.device import pick_device

        given = {"points": points, "gaussians": gaussians, "size": size, "repeats": repeats}
        config, chosen = build(ContestConfig, given), pick_device(device)
        about = machine()
        output.event("machine", **about)
        title = f"Medians on {chosen}, forward and backward; below 1 ×: faster than ours"
        table = Table("what", "backend", "ms", "over ours", title=title)
        for contest in contests(config, chosen):
            output.event("contest", **contest.plain)
            output.note(f"{contest.what}: {', '.join(contest.times)}")
            table.add_row(
                contest.what,
                "\n".join(
                    f"{name} (ours)" if name == contest.ours else name for name in contest.times
                ),
                "\n".join(f"{time:.2f}" for time in contest.times.values()),
                "\n".join(f"{ratio:.2f} ×" for ratio in contest.over_ours.values()),
            )
        output.event("result", contests=table.row_count)
        output.table(table)
        output.text(_machine_line(about))


def api(
    clients: Annotated[
        int, typer.Option("--clients", min=1, help="Each polls once a second.")
    ] = 200,
    runs: Annotated[int, typer.Option("--runs", min=4, help="That are looked at.")] = 50,
    seconds: Annotated[float, typer.Option("--seconds", min=5.0, help="For how long.")] = 15.0,
    training: Annotated[
        bool, typer.Option("--training", help="Let a run train meanwhile, and before and after.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time the answers of the HTTP API while many look at many runs.

    CPU time is told for the server, for the clients, which are here too, and for the training.
    """
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.web.load import GOAL_MS, GOAL_SLOWING, measure

        with TemporaryDirectory() as folder:
            load = measure(
                Path(folder), clients=clients, runs=runs, seconds=seconds, training=training
            )
        figures, goals = load.summary(), {"p95": GOAL_MS}
        if load.training is not None:
            goals["slowing"] = GOAL_SLOWING
        met = {name: figures[name] <= goal for name, goal in goals.items()}
        output.event("result", **figures, goals=goals, met=met)
        for name, value in figures.items():
            output.text(f"{name.replace('_', ' ')}: {value:g}")
        for name, goal in goals.items():
            output.text(f"goal: {name} <= {goal:g}, {'met' if met[name] else 'missed'}")


def batch(
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many.")] = 100,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="That a row sleeps.")] = 0.5,
    workers: WorkersOption = None,
    ray: RayOption = None,
    folder: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where; removed afterwards."),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time what a batch costs beside the work of its rows, which sleep, here or on a cluster."""
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.cli.batch import places
        from dreamlab.evaluation.speed.batch import measure

        share = None
        if ray is not None:
            from dreamlab.jobs.queue.ray_cluster import Share

            share = Share(1.0, 0.0)
        device = "auto" if ray else "cpu"
        with TemporaryDirectory(dir=folder) as name:
            place = Path(name)
            with places(place, device, workers, ray, share) as (devices, start):
                took = measure(place, devices, start, rows=rows, sleep=seconds)
        figures = {"wall": took.wall, "row_overhead": took.row_overhead, "row_cpu": took.row_cpu}
        output.event("result", rows=rows, places=took.places, sleep=seconds, **figures)
        output.text(
            f"{rows} rows of {seconds:g} s on {took.places} places in {took.wall:.1f} s: overhead "
            f"{took.row_overhead:.3f} s of a place a row, CPU time of the leading process "
            f"{took.row_cpu * 1e3:.0f} ms a row"
        )


def growth(
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Timed calls of a size, at least; their median.")
    ] = 5,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="A picture to write, .png or .webp.")
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time kernels at growing sizes on the CPU, and fit the exponent by which cost grows."""
    output = output_of(json, quiet)
    with reported(output):
        if plot is not None:
            check_picture("--plot", plot)
        from dreamlab.core.pictures import save
        from dreamlab.evaluation.speed.growth import Growth, measure_growth
        from dreamlab.evaluation.speed.growth_plot import draw_growth

        found: list[Growth] = []
        table = Table("what", "sizes", "ms", "exponent", title="Medians of CPU time, one thread")
        for series in measure_growth(repeats):
            found.append(series)
            plain = {"what": series.what, "sizes": list(series.sizes)}
            plain |= {"times_ms": list(series.milliseconds), "exponent": series.exponent}
            output.event("growth", **plain)
            color = "green" if series.is_linear_at_most else "red"
            table.add_row(
                series.what,
                "\n".join(f"{size:,}" for size in series.sizes),
                "\n".join(f"{time:.1f}" for time in series.milliseconds),
                f"[{color}]{series.exponent:.2f}[/{color}]",
            )
        if plot is not None:
            save(draw_growth(found), plot)
        linear = sum(series.is_linear_at_most for series in found)
        output.event("result", linear=linear, series=len(found))
        output.table(table)


def pgc(
    prompt: Annotated[str, typer.Argument(help="What to show, in quotes.")],
    recipes: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            "-r",
            metavar="NAME",
            help="Recipes, whose last stages are run; if none, a picture and a texture.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of every route.")] = 100,
    at: Annotated[
        int | None, typer.Option("--at", min=1, help="Show gradients of this step, not the last.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Of clipping; if none, 90 % of route vae lie below it."),
    ] = None,
    mesh: Annotated[
        Path | None, typer.Option("--mesh", metavar="FILE", help="To be painted, not a ball.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of all routes.")] = 0,
    folder: OutputOption = Path("runs/pgc"),
    device: DeviceOption = "auto",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare six routes of the gradient from latents to pixels; draws routes.png.

    Routes: latents, vae, linear, normalized, pgc-value, pgc-norm. See docs/pgc.md.
    """
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.core.config import build
        from dreamlab.core.pictures import save
        from dreamlab.core.run_folder import write_json
        from dreamlab.evaluation.routes import RoutesConfig, compare
        from dreamlab.evaluation.routes_figure import draw
        from dreamlab.jobs.device import pick_device

        given = {"prompt": prompt, "steps": steps, "at": at, "threshold": threshold, "seed": seed}
        given |= {"recipes": recipes} if recipes else {}
        config = build(RoutesConfig, given | {"mesh": mesh})
        chosen = pick_device(device)
        with display(output) as show:
            comparisons = compare(config, chosen, Teller(show))
        files = [folder / "routes.png", folder / "routes.json"]
        folder.mkdir(parents=True, exist_ok=True)
        save(draw(comparisons), files[0])
        about = {"prompt": prompt, "steps": steps, "step_shown": config.step_kept, "seed": seed}
        told = [comparison.to_plain() for comparison in comparisons]
        write_json(files[1], about | {"comparisons": told})
        output.event("result", files=[str(path) for path in files], comparisons=told)
        for path in files:
            output.text(str(path))


def _machine_line(about: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {about['versions'][name]}" for name in ("torch", "warp-lang"))
    card = f"{about['gpu']}, " if about["gpu"] else ""
    return f"{card}{about['cores']} x {about['processor']}, load {about['load']}; {packages}"


def _table(figures: Sequence["Figure"]) -> Table:
    table = Table("what", "ms", "value", "goal", title="Medians of CPU time")
    for figure in figures:
        times = "\n".join(f"{name} {time:.1f}" for name, time in figure.times.items())
        color = "green" if figure.is_met else "red"
        table.add_row(
            figure.what, times, f"[{color}]{_written(figure)}[/{color}]", figure.plain["goal"]
        )
    return table


def _written(figure: "Figure") -> str:
    return f"{figure.value:.2f} {figure.unit}"
