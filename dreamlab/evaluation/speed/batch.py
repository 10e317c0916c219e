"""What a batch costs beside the work of its rows: `dreamlab bench batch`.

Rows sleep for s seconds instead of training; all else is as ever: run folders, locks, a process
a row (without torch, which no row that sleeps needs), the index, results and contact sheet. With
n rows on k places that took T seconds of wall time,

    overhead a row = k T / n − s       with k no larger than n

is what a place spends on a row without working for it. The CPU time of the process that leads the
batch, a row, is what bounds how many places it can serve.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamlab.core.errors import DreamlabError
from dreamlab.jobs.batch.plan import make_plan
from dreamlab.jobs.batch.rows import make_row
from dreamlab.jobs.batch.run import carry_out
from dreamlab.jobs.queue.process import Starter
from dreamlab.training.stop import StopFlag


@dataclass(frozen=True, slots=True)
class Overhead:
    """Figures of a batch of rows that sleep."""

    rows: int
    places: int
    sleep: float
    """Of a row, s."""
    wall: float
    """Of the batch, s."""
    leader_cpu: float
    """CPU time of the process that leads the batch, s."""

    @property
    def row_overhead(self) -> float:
        """Seconds of a place a row, beside its sleep."""
        return min(self.places, self.rows) * self.wall / self.rows - self.sleep

    @property
    def row_cpu(self) -> float:
        """CPU seconds of the leading process a row."""
        return self.leader_cpu / self.rows


def measure(
    folder: Path, devices: Sequence[str], start: Starter | None, *, rows: int, sleep: float
) -> Overhead:
    """Carry out a batch of rows that sleep.

    Args:
        folder: of the batch; empty.
        devices: of each row at a time.
        start: as for `Supervisor`.
        rows: how many.
        sleep: of each, s.

    Raises:
        DreamlabError: a row did not end as it should.
    """
    given = [make_row({"prompt": "a ball", "seed": i}, f"row {i}") for i in range(rows)]
    plan = make_plan(given)
    command = (sys.executable, "-m", "dreamlab.evaluation.speed.sleeper", str(sleep))
    begin, cpu = time.perf_counter(), time.process_time()
    results = carry_out(
        plan, folder, devices, title="", stop=StopFlag(), command=command, start=start
    )
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    for result in results.gather():
        if result["state"] != "done":
            what = f"row {result['row']} is {result['state']} ({result['reason']})"
            raise DreamlabError(f"{what}.", "try again; nothing was measured.")
    return Overhead(rows, len(devices), sleep, wall, cpu)
