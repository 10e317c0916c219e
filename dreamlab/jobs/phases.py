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
from dreamlab.jobs.ledger import Ledger, write_ledger
from dreamlab.jobs.machine import peak_memory
from dreamlab.training.events import Event, EventStream, Listener

AVERAGED_STEPS = 32
"""Last steps of a stage over which the metrics in the report are averaged."""
Moved = Callable[[float, str], None]
"""Is told which fraction of a phase is done, or of the part of it that is named."""


class Phases:
    """Watches one job: hands its events on, and keeps what the report needs of them."""

    def __init__(
        self, folder: RunFolder, listener: Listener | None, earlier: Ledger | None = None
    ) -> None:
        """Begin to count.

        Args:
            folder: of the run.
            listener: is called with every event.
            earlier: what the run took before; its ledger is then kept up to date.
        """
        self.folder, self.listener, self.earlier = folder, listener, earlier
        self.rungs: Callable[[], list[str]] = list
        """Tells what the prior gave up for its memory; nothing before there is one."""
        self.stream = EventStream(folder, listener)
        self._begin = time.monotonic()
        self._seconds: dict[str, float] = {}
        self._open: tuple[str, float] | None = None
        self._last: dict[str, deque[Event]] = defaultdict(lambda: deque(maxlen=AVERAGED_STEPS))

    @property
    def ledger(self) -> Ledger:
        """What the run took up to now, earlier processes and the phase that is open included."""
        now = time.monotonic()
        seconds = dict(self._seconds)
        if self._open is not None:
            name, begin = self._open
            seconds[name] = seconds.get(name, 0.0) + now - begin
        metrics = {stage: self._last_metrics(stage) for stage in self._last}
        mine = Ledger(now - self._begin, seconds, peak_memory(), metrics, self.rungs())
        return (self.earlier or Ledger()).plus(mine)

    def save(self) -> None:
        """Bring the ledger on disk up to date, if this job keeps one."""
        if self.earlier is not None:
            write_ledger(self.folder, self.ledger)

    @contextmanager
    def phase(self, name: str) -> Iterator[Moved]:
        """Run a phase; yields a function that reports how much of it is done.

        An exception leaves the phase without an end.
        """
        state.enter_phase(self.folder, name)
        self.stream.emit("phase", phase=name, steps=None)
        self._enter(name)

        def moved(fraction: float, part: str) -> None:
            if self.listener:
                values = {"phase": name, "fraction": fraction, "part": part}
                self.listener(Event("progress", values))

        yield moved
        self.end()

    def _enter(self, name: str) -> None:
        self._open = (name, time.monotonic())

    def end(self) -> None:
        """Record how long the open phase took."""
        if self._open is None:
            return
        name, begin = self._open
        took = time.monotonic() - begin
        self._seconds[name] = self._seconds.get(name, 0.0) + took
        self._open = None
        self.stream.emit("phase_done", phase=name, seconds=round(took, 3))
        self.save()

    def on_training_event(self, event: Event) -> None:
        """Take an event of the training loop and hand it on; a stage ends where the next begins."""
        if event.kind == "phase":
            self.end()
            state.enter_phase(self.folder, event.values["phase"])
            self._enter(event.values["phase"])
        elif event.kind == "step":
            self._last[event.values["stage"]].append(event)
        elif event.kind == "checkpoint":
            self.save()
        if self.listener:
            self.listener(event)

    def _last_metrics(self, stage: str) -> dict[str, float]:
        """Average the metrics over the last steps of a stage, leaving out what is not finite."""
        sums: dict[str, list[float]] = defaultdict(list)
        for event in self._last[stage]:
            for name, value in {"loss": event.values["loss"], **event.values["metrics"]}.items():
                if value is not None:
                    sums[name].append(value)
        return {name: round(sum(values) / len(values), 6) for name, values in sums.items()}
