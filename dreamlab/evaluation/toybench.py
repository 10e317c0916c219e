"""ToyBench: text to 3D against ground truth.

Each prompt is made by the command line in a process of its own; its exported GLB is read back and
compared with the true mesh of the toybox world. The true mesh itself is measured in the same way:
that is the ceiling which stands beside every figure.

A bench folder holds `settings.json`, `prompts/<number>-<slug>/` (see `child`), and the results:
`toybench.json`, `toybench.md`, `sheet-seen.png`, `sheet-held-out.png`. A bench that was stopped is
continued in the same folder: prompts that are done are not made again, failed ones are.
"""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from threading import Event as Flag
from typing import Any, Literal

from dreamlab.core.config import build, to_plain
from dreamlab.core.errors import DreamlabError, InputError
from dreamlab.core.run_folder import slug, write_json, write_text
from dreamlab.core.version import VERSION
from dreamlab.evaluation import child, sheet, tables
from dreamlab.evaluation.child import Outcome
from dreamlab.evaluation.measure import measure
from dreamlab.evaluation.metrics import Judge
from dreamlab.evaluation.prompts import BenchPrompt, all_prompts, bench_prompts
from dreamlab.evaluation.rows import Row, row_from_plain, row_to_plain
from dreamlab.export.files.reload import load_glb
from dreamlab.jobs.machine import machine_class, versions
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE
from dreamlab.jobs.recipes import load_recipe
from dreamlab.training.events import Event, Listener

Objects = Literal["any", "one", "several", "front", "three"]
MODEL = "model.glb"
RESULTS = "toybench.json"
NOT_COMPARED = ("prompts", "objects", "time_limit", "workers")
"""Settings that may change while a bench is continued."""


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """What is generated."""

    recipe: str = DEFAULT_RECIPE
    """A recipe's name, or the path of a .yaml file."""
    quality: str = "standard"
    """draft, standard or high."""
    prompts: int = 48
    """How many, from the beginning of the list; every beginning of the 48 is balanced."""
    objects: Objects = "any"
    """Which of the 48 prompts: all, those of one object, of several, of one that has a front; or
    the 8 of three objects, which are none of the 48."""
    seed: int = 0
    """Of every prompt's run."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, …"""
    time_limit: float = 3600.0
    """Seconds after which the process of one prompt is ended and counts as failed."""
    workers: int = 1
    """Prompts that are made at a time; several share the processor's threads evenly."""
    overrides: tuple[str, ...] = ()
    """Settings to change, as key=value."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")
        if not 1 <= self.prompts <= len(bench_prompts()):
            raise ValueError(
                f"prompts must be from 1 to {len(bench_prompts())}, got {self.prompts}"
            )
        if self.time_limit <= 0:
            raise ValueError(f"time_limit must be positive, got {self.time_limit}")

    @property
    def numbers(self) -> list[int]:
        """The places in `all_prompts` of those that are made."""
        wanted = [n for n, prompt in enumerate(all_prompts()) if self.objects in kinds(prompt)]
        return wanted[: self.prompts]

    @property
    def threads(self) -> int | None:
        """How many threads each process has; one alone takes what it likes."""
        return None if self.workers == 1 else max(1, (os.cpu_count() or 1) // self.workers)

    @property
    def arguments(self) -> list[str]:
        """The command line of one prompt, without the prompt and the folder."""
        options = {"recipe": self.recipe, "quality": self.quality, "device": self.device}
        line = [*self.overrides, "--seed", str(self.seed)]
        for name, value in options.items():
            line += [f"--{name}", value]
        return line


def kinds(prompt: BenchPrompt) -> set[Objects]:
    """Return all that `BenchConfig.objects` may say for a prompt to be among them."""
    if len(prompt.objects) > 2:
        return {"three"}
    found: set[Objects] = {"any", "one" if len(prompt.objects) == 1 else "several"}
    return found | ({"front"} if prompt.has_janus_answer else set())


@dataclass(frozen=True)
class Bench:
    """What a bench found."""

    rows: list[Row]
    """One for each prompt, in the order of `all_prompts`."""
    files: list[Path] = field(default_factory=list)
    """Table, JSON and contact sheets."""


def run(
    config: BenchConfig,
    folder: Path,
    judge: Judge | None,
    *,
    on_event: Listener = lambda event: None,
    command: Sequence[str] = child.CLI,
) -> Bench:
    """Generate and measure all prompts; a prompt that fails is recorded and counts as worst.

    Args:
        config: what is generated.
        folder: of the bench; made if it is not there, continued if it is.
        judge: what `load_judge` returned; None leaves out R-precision and the Janus test.
        on_event: gets "phase" and "phase_done" for each prompt, "progress" inside it, and
            "warning" when one fails.
        command: that starts the command line.

    Raises:
        InputError: recipe, quality or an override is refused; or `folder` cannot be written, or
            holds a bench with other settings.
    """
    load_recipe(config.recipe, config.quality, config.overrides, prompt=bench_prompts()[0].text)
    _claim(folder, config)
    rows: list[Row] = []
    pictures: list[sheet.Pictures] = []
    with _outcomes(config, folder, command) as outcomes:
        for count, (number, made) in enumerate(outcomes.items(), start=1):
            prompt = all_prompts()[number]
            title = f"{count}/{len(outcomes)} {prompt.text}"
            on_event(Event("phase", {"phase": title, "steps": None}))
            on_event(_progress(title, 0.0, "generate"))
            outcome = made.result()
            on_event(_progress(title, 0.9, "measure"))
            row, picture = assess(prompt, prompt_folder(folder, number), outcome, judge)
            if row.error:
                on_event(Event("warning", {"message": f"{prompt.text}: {row.error}"}))
            rows.append(row)
            pictures.append(picture)
            write_json(folder / RESULTS, results(config, rows))
            on_event(Event("phase_done", {"phase": title, "seconds": outcome.seconds}))
    write_text(folder / "toybench.md", tables.report(rows, title_of(config)))
    return Bench(
        rows,
        [folder / name for name in ("toybench.md", RESULTS)] + sheet.write(pictures, folder),
    )


@contextmanager
def _outcomes(
    config: BenchConfig, folder: Path, command: Sequence[str]
) -> Iterator[dict[int, Future[Outcome]]]:
    """Make all prompts, `workers` at a time, in their order; leaving ends what is not done."""
    stop = Flag()

    def make(number: int) -> Outcome:
        place = prompt_folder(folder, number)
        before = child.read_outcome(place)
        if before is not None and before.exit_code == 0:
            return before
        return child.generate(
            place,
            all_prompts()[number].text,
            config.arguments,
            time_limit=config.time_limit,
            command=command,
            threads=config.threads,
            stop=stop,
        )

    with ThreadPoolExecutor(config.workers) as pool:
        try:
            yield {number: pool.submit(make, number) for number in config.numbers}
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def prompt_folder(folder: Path, number: int) -> Path:
    """Return the folder of a prompt, given its place in `all_prompts`."""
    return folder / "prompts" / f"{number:02d}-{slug(all_prompts()[number].text)}"


def assess(
    prompt: BenchPrompt, place: Path, outcome: Outcome, judge: Judge | None
) -> tuple[Row, sheet.Pictures]:
    """Measure what the process of a prompt has left, beside the truth."""
    truth = prompt.truth()
    mesh, report, error = None, {}, outcome.error
    if outcome.exit_code == 0:
        try:
            run = child.run_folder(place, outcome)
            mesh = load_glb(run.exports / MODEL, undo_placement=True)
            report = _read_report(run.report)
        except DreamlabError as failure:
            mesh, error = None, failure.message
    among = [other.text for other in bench_prompts()]
    row = Row(
        prompt=prompt,
        outcome=outcome,
        error=error,
        report=report,
        measures=measure(mesh, truth, prompt, judge, among) if mesh else None,
        truth=measure(truth, truth, prompt, judge, among),
    )
    return row, sheet.take(prompt, mesh, truth)


def results(config: BenchConfig, rows: Sequence[Row]) -> dict[str, Any]:
    """Return everything as plain values: settings, machine, summary and rows."""
    return {
        "settings": to_plain(config),
        "machine": machine_class(),
        "versions": versions(),
        "summary": tables.summary(rows),
        "phases": tables.phase_seconds(rows),
        "prompts": [row_to_plain(row) for row in rows],
    }


def load_rows(folder: Path) -> tuple[str, list[Row]]:
    """Read the results of a bench: its title, and a row for each prompt.

    Raises:
        InputError: there are none, or they are damaged or of another version.
    """
    path = folder / RESULTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = build(BenchConfig, content["settings"], "settings")
        return title_of(config), [row_from_plain(row) for row in content["prompts"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, InputError) as error:
        raise InputError(
            f"{path} cannot be read: {error}.",
            "give folders of `dreamlab bench toybench`; the same command measures again what one "
            "of another version has made.",
        ) from None


def _claim(folder: Path, config: BenchConfig) -> None:
    """Write down the settings of a new bench, or check that they are those of the old one."""
    settings = {"version": VERSION, **to_plain(config)}
    path = folder / "settings.json"
    try:
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            names = [f.name for f in fields(config) if f.name not in NOT_COMPARED] + ["version"]
            other = [name for name in names if before.get(name) != settings[name]]
            if other:
                changed = ", ".join(f"{name} was {before.get(name)!r}" for name in other)
                raise InputError(
                    f"{folder} holds a bench with other settings: {changed}.",
                    "choose another folder with --output, or delete this one.",
                )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} cannot be used: {error}.", "choose another folder with --output."
        ) from None


def _read_report(path: Path) -> dict[str, Any]:
    """Read report.json of a run.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.", "generate the prompt again.") from None
    return report if isinstance(report, dict) else {}


def _progress(title: str, fraction: float, part: str) -> Event:
    return Event("progress", {"phase": title, "fraction": fraction, "part": part})


def title_of(config: BenchConfig) -> str:
    """Return what was generated, in a line."""
    changes = f", {' '.join(config.overrides)}" if config.overrides else ""
    return f"recipe {config.recipe}, quality {config.quality}, seed {config.seed}{changes}"
