"""A progress bar per phase on stderr, with steps, iterations per second and time left.

On a terminal the bars move; elsewhere (a log file, a pipe) a line is written when a phase begins,
at every tenth of its steps, and when it ends.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dreamlab.cli.output import Output

if TYPE_CHECKING:
    from dreamlab.training.events import Event

TENTHS = 10
SHOWN = ("warning", "restored", "stopped", "resumed")
"""Kinds of events that get a line of their own."""


class Display:
    """Shows a job's events to a person, and writes them as JSON lines if asked to.

    It is called with every event; `dreamlab.training.events` and `dreamlab.jobs.phases` say what
    kinds there are.
    """

    def __init__(self, output: Output, progress: Progress | None) -> None:
        self.output, self.progress = output, progress
        self.task: TaskID | None = None
        self.phase, self.tenth = "", 0

    def __call__(self, event: "Event") -> None:
        self.output.event(event.kind, **event.values)
        values = event.values
        if event.kind == "phase":
            self._begin(values["phase"], values["steps"])
        elif event.kind == "step":
            text = f"{values['step']}/{values['steps']}  {_rate(values)}"
            self._move(values["step"] / values["steps"], text, lines=True)
        elif event.kind == "progress":
            self._move(values["fraction"], values["part"], lines=False)
        elif event.kind == "phase_done":
            self._end(values["seconds"])
        elif event.kind in SHOWN:
            details = ", ".join(f"{name} {value}" for name, value in values.items())
            self.output.note(f"{event.kind}: {details}")

    def _begin(self, phase: str, steps: int | None) -> None:
        self.phase, self.tenth = phase, 0
        of = f" ({steps} steps)" if steps else ""
        if self.progress is not None:
            self.task = self.progress.add_task(phase, total=1.0, detail=of)
        else:
            self.output.note(f"{phase}{of} ...")

    def _move(self, fraction: float, text: str, *, lines: bool) -> None:
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=min(fraction, 0.999), detail=text)
        elif lines and int(fraction * TENTHS) > self.tenth:
            self.tenth = int(fraction * TENTHS)
            self.output.note(f"{self.phase} {text}")

    def _end(self, seconds: float) -> None:
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=1.0)
            self.progress.stop_task(self.task)
        else:
            self.output.note(f"{self.phase} done in {seconds:.1f} s")


def _rate(values: Mapping[str, Any]) -> str:
    rate, left = values["rate"], values["eta"]
    if not rate or left is None:
        return ""
    minutes, seconds = divmod(round(left), 60)
    return f"{rate:.1f} it/s  {minutes}:{seconds:02d} left"


class Teller:
    """Shows parts of a work that only tells how far it is as phases."""

    def __init__(self, show: Display) -> None:
        self.show = show
        self.phase, self.begin = "", 0.0

    def __call__(self, phase: str, fraction: float) -> None:
        """Show that a fraction of a phase is done."""
        from dreamlab.training.events import Event

        if phase != self.phase:
            self.phase, self.begin = phase, time.monotonic()
            self.show(Event("phase", {"phase": phase, "steps": None}))
        self.show(Event("progress", {"phase": phase, "fraction": fraction, "part": ""}))
        if fraction == 1.0:
            seconds = time.monotonic() - self.begin
            self.show(Event("phase_done", {"phase": phase, "seconds": seconds}))


@contextmanager
def display(output: Output) -> Iterator[Display]:
    """Open the display for one job."""
    console = output.stderr
    if output.quiet or not console.is_terminal:
        yield Display(output, None)
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        yield Display(output, progress)
