"""Carrying out a batch: its rows become runs in a folder of their own, done by worker processes.

    <folder>/<slug>-<seed>-<digest>/   the run of a row
    <folder>/results.jsonl  results.csv  index.html

The folder is the whole memory of a batch. Running the same file again leaves rows that are done,
stopped, paused or cancelled as they are, tries those that failed once more, and goes on with the
rest from their checkpoints. Run folders are made shortly before their turn, so a batch of thousands
begins at once.

What a row costs here does not grow with the number of rows: one that was made goes straight to the
supervisor's agenda, and what grows (looks at all folders, writing the results) is done so rarely
that it takes a fixed share of the time.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import lock, state
from dreamlab.jobs.batch.plan import Plan, Planned
from dreamlab.jobs.batch.results import Results
from dreamlab.jobs.generate import write_record
from dreamlab.jobs.lock import BusyError
from dreamlab.jobs.queue import actions
from dreamlab.jobs.queue.process import Starter
from dreamlab.jobs.queue.supervisor import WORKER, Supervisor
from dreamlab.training.events import Event, Listener
from dreamlab.training.stop import StopFlag

LOCK = ".batch.lock"
AHEAD = 2
"""Rows a worker that wait with their folders made."""
RESULT_SECONDS = 2.0
"""Between two writings of the results, at least."""
RESULT_SHARE = 0.02
"""Most of its time that a batch spends writing results."""


def carry_out(
    plan: Plan,
    folder: Path,
    devices: Sequence[str],
    *,
    title: str,
    stop: StopFlag,
    metrics: bool = False,
    on_event: Listener = lambda event: None,
    command: Sequence[str] = WORKER,
    start: Starter | None = None,
) -> Results:
    """Run the rows of a batch until all have ended or `stop` is set.

    Args:
        plan: what `make_plan` returned.
        folder: of the batch; made if it is not there, continued if it is.
        devices: of each worker that may run at once.
        title: of the contact sheet.
        stop: when set, workers write checkpoints and end; the same call goes on later.
        metrics: put the training metrics of every stage into the results.
        on_event: as for `Supervisor`.
        command: that starts a worker.
        start: as for `Supervisor`.

    Raises:
        InputError: another process carries out this batch, or its folder cannot be written.
    """
    make_folder(folder)
    results = Results(folder, plan.rows, title, metrics=metrics)
    try:
        with lock.hold(folder / LOCK):
            _Batch(plan, folder, devices, results, on_event, command, start).run(stop)
    except BusyError:
        raise BusyError(
            f"another process carries out the batch in {folder}.", "wait for it, or stop it first."
        ) from None
    return results


def make_folder(folder: Path) -> None:
    """Make the folder of a batch, if it is not there.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror or error}.",
            "choose a folder you may write to with --output.",
        ) from None


class _Batch:
    """A batch being carried out."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        devices: Sequence[str],
        results: Results,
        on_event: Listener,
        command: Sequence[str],
        start: Starter | None,
    ) -> None:
        runnable = [row for row in plan.rows if row.config is not None]
        self.folder, self.results, self.on_event = folder, results, on_event
        self.supervisor = Supervisor(
            folder,
            devices,
            only={row.name for row in runnable},
            on_event=self._listen,
            command=command,
            start=start,
        )
        self.waiting = sorted(runnable, key=lambda row: (-row.row.priority, row.number))
        self.waiting.reverse()  # the next one is the last
        self.numbers = {row.name: row.number for row in plan.rows}
        self.has_changed = True
        self.written, self.rest = -float("inf"), RESULT_SECONDS

    def run(self, stop: StopFlag) -> None:
        """Make folders, start workers and write results, until nothing is left to do."""
        self._revive()
        self._queue_more()
        try:
            while not stop.is_set:
                self.supervisor.step()  # first: a free place is filled before anything else
                self._queue_more()
                if not self.waiting and self.supervisor.is_idle:
                    break
                self._write_results()
                self.supervisor.rest()
        finally:
            self.supervisor.shut_down()
            self.results.write()

    def _revive(self) -> None:
        """Leave out rows that have ended, and queue those again that failed."""
        entries = self.supervisor.index.search(limit=-1).entries
        made = {entry.root.name: entry for entry in entries}
        for row in self.waiting:
            if row.name in made and made[row.name].state == "failed":
                with suppress(InputError):  # damaged, which the results say, or in use
                    actions.resume(RunFolder(made[row.name].root))
        self.waiting = [row for row in self.waiting if row.name not in made]

    def _queue_more(self) -> None:
        """Make the folders of the next rows."""
        wanted = AHEAD * len(self.supervisor.devices)
        while self.waiting and self.supervisor.agenda.count_ready(state.now()) < wanted:
            self._make(self.waiting.pop())

    def _make(self, row: Planned) -> None:
        assert row.config is not None
        folder = RunFolder(self.folder / row.name)
        for path in (folder.previews, folder.checkpoints, folder.exports):
            path.mkdir(parents=True, exist_ok=True)
        job = write_record(folder, row.config, is_queued=True, priority=row.row.priority)
        self.supervisor.add(folder, job)

    def _listen(self, event: Event) -> None:
        """Say which row an event is about, and hand it on."""
        self.has_changed = True
        if "run" in event.values:
            number = self.numbers[Path(event.values["run"]).name]
            event = Event(event.kind, {"row": number, **event.values})
        self.on_event(event)

    def _write_results(self) -> None:
        begin = time.monotonic()
        if self.has_changed and begin - self.written >= self.rest:
            self.has_changed = False
            self.results.write()
            self.written = time.monotonic()
            self.rest = max(RESULT_SECONDS, (self.written - begin) / RESULT_SHARE)
