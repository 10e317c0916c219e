"""The runs that wait for a worker, in the order of their turns.

    ready     highest priority first, then the oldest, then by name
    resting   those that may not be tried again yet, by the time at which they may

Taking the next run, or adding one, costs O(log n) for n runs, however many there are in the folder.
An agenda is what was seen at the last look at the folders: whoever takes a run from it reads the
run's record, since others may have changed it.
"""

from collections.abc import Iterable
from heapq import heappop, heappush

from dreamlab.jobs.queue.index import Entry
from dreamlab.jobs.state import Job

Turn = tuple[int, float, str]
"""Less a priority, time at which the run was made, name of its folder: the least has its turn."""


class Agenda:
    """Names of runs, each at most once."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Begin with some runs."""
        self._ready: list[Turn] = []
        self._resting: list[tuple[float, Turn]] = []
        self._names: set[str] = set()
        for entry in entries:
            self.add(entry.root.name, entry)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, job: Job | Entry) -> None:
        """Add a queued run, unless it is there already.

        Args:
            name: of its folder.
            job: its record; `priority`, `created` and `not_before` count.
        """
        if name in self._names:
            return
        self._names.add(name)
        heappush(self._resting, (job.not_before, (-job.priority, job.created, name)))

    def count_ready(self, now: float) -> int:
        """Count the runs that do not rest; `now` in seconds since 1970."""
        while self._resting and self._resting[0][0] <= now:
            heappush(self._ready, heappop(self._resting)[1])
        return len(self._ready)

    def take(self, now: float) -> str | None:
        """Take out the run whose turn it is; None if all rest, or there is none."""
        if not self.count_ready(now):
            return None
        name = heappop(self._ready)[2]
        self._names.remove(name)
        return name
