"""The phases of a job: named, timed, and told to everybody who watches.

A phase is recorded in job.json (what the job is doing now), events.jsonl, log.txt and at the
caller's listener. Kinds of events beside those of the training loop, which announces its stages
itself:

    phase       {phase, steps}           it began
    progress    {phase, fraction, part}  it moved on; for the listener only
    phase_done  {phase, seconds}         it ended well
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.training.events import Event, EventStream, Listener

AVERAGED_STEPS = 32
"""Last steps of a stage over which the metrics in the report are averaged."""
Moved = Callable[[float, str], None]
"""Is told which fraction of a phase is done, or of the part of it that is named."""


class Phases:
    """Watches one job: hands its events on, and keeps what the report needs of them."""

    def __init__(self, folder: RunFolder, listener: Listener | None) -> None:
        self.folder, self.listener = folder, listener
        self.stream = EventStream(folder, listener)
        self._begin = time.monotonic()
        self.seconds: dict[str, float] = {}
        """Duration of every phase that has ended, in order."""
        self.steps: dict[str, int] = defaultdict(int)
        """Steps that this process did of each stage."""
        self._last: dict[str, deque[Event]] = defaultdict(lambda: deque(maxlen=AVERAGED_STEPS))

    @property
    def total_seconds(self) -> float:
        """Time since the job began."""
        return time.monotonic() - self._begin

    @contextmanager
    def phase(self, name: str) -> Iterator[Moved]:
        """Run a phase; yields a function that reports how much of it is done.

        An exception leaves the phase without an end.
        """
        state.enter_phase(self.folder, name)
        self.stream.emit("phase", phase=name, steps=None)
        begin = time.monotonic()

        def moved(fraction: float, part: str) -> None:
            if self.listener:
                values = {"phase": name, "fraction": fraction, "part": part}
                self.listener(Event("progress", values))

        yield moved
        self.end(name, time.monotonic() - begin)

    def end(self, name: str, seconds: float) -> None:
        """Record how long a phase took."""
        self.seconds[name] = self.seconds.get(name, 0.0) + round(seconds, 3)
        self.stream.emit("phase_done", phase=name, seconds=round(seconds, 3))

    def on_training_event(self, event: Event) -> None:
        """Take an event of the training loop and hand it on."""
        if event.kind == "phase":
            state.enter_phase(self.folder, event.values["phase"])
        elif event.kind == "step":
            self.steps[event.values["stage"]] += 1
            self._last[event.values["stage"]].append(event)
        if self.listener:
            self.listener(event)

    def last_metrics(self, stage: str) -> dict[str, float]:
        """Average the metrics over the last steps of a stage, leaving out what is not finite."""
        sums: dict[str, list[float]] = defaultdict(list)
        for event in self._last[stage]:
            for name, value in {"loss": event.values["loss"], **event.values["metrics"]}.items():
                if value is not None:
                    sums[name].append(value)
        return {name: round(sum(values) / len(values), 6) for name, values in sums.items()}
