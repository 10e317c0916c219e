"""The supervisor: starts a worker process for each free device, and sees to how they end.

It holds nothing that is not in the run folders: kill it at any moment, or run several on one
folder. Its workers then hand their runs back (see `worker`), and whoever looks next goes on:

- a queued run whose turn it is goes to a free device; highest priority first, then the oldest;
- a run of the queue that is recorded as running, but whose lock is free, has lost its process:
  it is tried again from its last checkpoint or given up, see `retry`;
- finished runs are pruned and the queue waits while the disk quota is exceeded, see `retention`.

A look at the folders costs time for every run that lies there, so it is taken now and then, and a
device that becomes free is given the next run of the `Agenda` of the last look at once. With n runs
the end of a worker thus costs O(log n), and looks take `LOOK_SHARE` of the time however large n is.
What others change in between shows at the next look; before a run is begun its record is read.

Which of several workers has a run is decided by the run's lock alone.
"""

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import retry, state
from dreamlab.jobs.control import read_request
from dreamlab.jobs.lock import BusyError
from dreamlab.jobs.queue.actions import answer
from dreamlab.jobs.queue.agenda import Agenda
from dreamlab.jobs.queue.index import Entry, Index
from dreamlab.jobs.queue.local import local_starter
from dreamlab.jobs.queue.process import Process, Starter
from dreamlab.jobs.queue.retention import Retention, enforce
from dreamlab.jobs.queue.worker import NOT_MINE
from dreamlab.training.events import Event, Listener
from dreamlab.training.stop import StopFlag

logger = logging.getLogger(__name__)
WORKER = (sys.executable, "-m", "dreamlab.jobs.queue.worker")
POLL_SECONDS = 0.25
"""Between two looks at least, and until a request to stop is heard."""
LOOK_SHARE = 0.02
"""Most of its time that a supervisor spends looking at all folders."""
RETENTION_SECONDS = 60.0
"""Between two looks at the disk."""
GRACE_SECONDS = 60.0
"""That workers get to write a checkpoint before they are killed."""


@dataclass
class _Worker:
    """A process that was started for a run."""

    process: Process
    folder: RunFolder
    device: str
    record: state.Job
    """Of the run, before the process was started."""


class Supervisor:
    """Carries out the queue of one folder of runs; to be used by one thread."""

    def __init__(
        self,
        parent: Path,
        devices: Sequence[str],
        *,
        retention: Retention | None = None,
        only: Collection[str] | None = None,
        on_event: Listener = lambda event: None,
        command: Sequence[str] = WORKER,
        start: Starter | None = None,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            parent: the folder of runs.
            devices: of each worker that may run at once; a name may come several times.
            retention: what is removed from finished runs.
            only: names of the run folders to look after; None: all.
            on_event: is told of runs that "begin" and "end", and of each "warning".
            command: that starts a worker.
            start: starts such a command somewhere; None: on this machine.
        """
        self.parent, self.devices = parent, list(devices)
        self.retention, self.only = retention or Retention(), only
        self.on_event, self.command = on_event, list(command)
        self.start_process = start or local_starter(self.devices)
        self.index = Index(parent)
        self.is_full = False
        """Whether no run begins because the quota is exceeded."""
        self.agenda = Agenda()
        """Runs of the last look that wait for a worker."""
        self._is_ending = False
        self._workers: list[_Worker] = []
        self._worker_ended = threading.Event()
        self._elsewhere = Counter[str]()  # devices on which other supervisors were at work
        self._num_open = 0  # runs of the last look that were not at rest
        self._is_stale = True  # a run that it looks after has changed since
        self._looked = self._pruned = -float("inf")
        self._look_seconds = 0.0

    def run(self, stop: StopFlag, *, until_idle: bool = False) -> None:
        """Work until `stop` is set or, if asked for, until no queued run is left."""
        try:
            while not stop.is_set:
                self.step()
                if until_idle and self.is_idle:
                    return
                self.rest()
        finally:
            self.shut_down()

    def step(self) -> None:
        """See to workers that have ended, and start as many as there are free devices."""
        self._reap()
        now = time.monotonic()
        if now - self._pruned >= RETENTION_SECONDS:
            self._prune()
        if len(self._workers) < len(self.devices):
            rest = max(POLL_SECONDS, self._look_seconds / LOOK_SHARE)
            may_be_over = self._is_stale and not (self._workers or self.agenda)
            if now - self._looked >= rest or may_be_over:
                self._look()
                self._looked = time.monotonic()
                self._look_seconds = self._looked - now
            self._fill()

    def rest(self) -> None:
        """Wait until a worker has ended, but no longer than `POLL_SECONDS`."""
        self._worker_ended.wait(POLL_SECONDS)
        self._worker_ended.clear()  # before the workers are looked at: none is missed

    def add(self, folder: RunFolder, job: state.Job) -> None:
        """Put a run that was just queued on the agenda, without a look at the folders."""
        self.agenda.add(folder.root.name, job)
        self._is_stale = True

    @property
    def is_idle(self) -> bool:
        """Whether no run that it looks after was queued or running at the last look."""
        return not (self._workers or self._is_stale or self._num_open)

    def shut_down(self, grace: float = GRACE_SECONDS) -> None:
        """Let the workers write checkpoints and hand their runs back; kill those that do not."""
        self._is_ending = True
        for worker in self._workers:
            with suppress(ProcessLookupError):
                worker.process.terminate()
        deadline = time.monotonic() + grace
        while self._workers and time.monotonic() < deadline:
            self._reap()
            self.rest()
        self.kill()

    def kill(self) -> None:
        """End the workers at once; their runs lose the steps since their last checkpoints."""
        self._is_ending = True
        for worker in self._workers:
            worker.process.kill()
        self._reap()

    def _entries(self) -> list[Entry]:
        """List the runs that may need something, in the order in which they have their turns."""
        states = ("queued", "running", "failed")
        return self.index.search(states=states, order="queue", limit=-1).entries

    def _is_mine(self, entry: Entry) -> bool:
        return entry.is_queued and (self.only is None or entry.root.name in self.only)

    def _reap(self) -> None:
        for worker in list(self._workers):
            code = worker.process.poll()
            if code is None:
                continue
            self._workers.remove(worker)
            self._is_stale = True
            if code != NOT_MINE:
                before = worker.record if code else None
                self._settle(worker.folder, worker.process.reason(), before)
                self._tell("end", worker.folder, exit_code=code)

    def _settle(self, folder: RunFolder, reason: str, before: state.Job | None = None) -> None:
        """Decide what becomes of a run whose worker has gone without finishing it.

        Args:
            folder: of the run.
            reason: what is known of the worker's end.
            before: the record with which a worker that failed was started.
        """
        try:
            with state.held(folder, beat=False):
                job = state.read_record(folder)
                wish = read_request(folder)
                if job.state == "running" and wish is not None:
                    answer(folder, wish)
                elif self._is_ending:  # it was told to end: that is no crash
                    if job.state == "running":
                        state.finish(folder, "queued")
                elif job.state == "running" or job == before:
                    job = retry.crash(folder, reason)
                if job.state == "queued" and job.is_queued:  # it is tried again
                    self.add(folder, job)
        except BusyError:
            return  # another process goes on with it
        except InputError as error:
            self._warn(str(error))

    def _look(self) -> None:
        """Look at all runs: take up what others have left, and note whose turn it is."""
        entries = [e for e in self._entries() if e.state != "failed" or e.is_orphan]
        mine = [entry for entry in entries if self._is_mine(entry)]
        started = {worker.folder.root.name for worker in self._workers}
        queued = [e for e in mine if e.state == "queued" and e.root.name not in started]
        self.agenda, self._num_open, self._is_stale = Agenda(queued), len(mine), False
        here = (e for e in entries if e.state == "running" and e.host == state.host())
        self._elsewhere = Counter(e.device for e in here if e.root.name not in started)
        for entry in mine:
            if entry.is_orphan and entry.root.name not in started:
                self._settle(RunFolder(entry.root), "its process is gone")

    def _fill(self) -> None:
        """Start workers on the free devices."""
        for device in [] if self.is_full else self._free_devices():
            found = self._next()
            if found is None:
                return
            self._start(*found, device)

    def _next(self) -> tuple[RunFolder, state.Job] | None:
        """Take the run whose turn it is, and its record, from the agenda."""
        now = state.now()
        while (name := self.agenda.take(now)) is not None:
            self._is_stale = True
            folder = RunFolder(self.parent / name)
            try:
                record = state.read_record(folder)
            except InputError as error:
                self._warn(str(error))
                continue
            if record.state != "queued" or not record.is_queued:
                continue  # others have begun or ended it
            if record.not_before <= now:
                return folder, record
            self.agenda.add(name, record)
        return None

    def _free_devices(self) -> list[str]:
        """List the devices on which neither its own workers nor others on this machine work."""
        busy = self._elsewhere + Counter(worker.device for worker in self._workers)
        free: list[str] = []
        for device in self.devices:
            if busy[device] > 0:
                busy[device] -= 1
            else:
                free.append(device)
        return free

    def _start(self, folder: RunFolder, record: state.Job, device: str) -> None:
        try:
            process = self.start_process(folder, device, self.command)
        except OSError as error:
            self._warn(f"cannot start a worker for {folder.root}: {error}")
            return
        self._workers.append(_Worker(process, folder, device, record))
        process.call_when_ended(self._worker_ended.set)
        self._tell("begin", folder, device=device)

    def _prune(self) -> None:
        """Keep to the quota, as far as that is allowed."""
        self._pruned = time.monotonic()
        try:
            usage = enforce(self.parent, self.retention)
        except InputError as error:
            self._warn(str(error))
            return
        if usage.is_over and not self.is_full:
            self._warn(
                f"the runs in {self.parent} take {usage.used / 1e9:.1f} GB, more than the quota of "
                f"{self.retention.quota_gb:g} GB, and nothing more may be removed: no run begins."
            )
        self.is_full = usage.is_over

    def _tell(self, kind: str, folder: RunFolder, **values: object) -> None:
        try:
            job = state.read(folder)
            values |= {"state": job.state, "reason": job.reason}
        except InputError as error:
            values |= {"state": "failed", "reason": error.message}
        self.on_event(Event(kind, {"run": str(folder.root), **values}))

    def _warn(self, message: str) -> None:
        logger.warning("%s", message)
        self.on_event(Event("warning", {"message": message}))
