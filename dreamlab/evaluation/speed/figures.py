"""Figures of speed: times of calls that were taken in turns, and what is made of them.

Every time is CPU time of this process, all of its threads together, in milliseconds, and the median
over repeats, so other load on the machine blurs it little; on a graphics card it is wall time until
the card is done. A ratio compares calls taken in turns in one process, so what blurs it blurs both.

Short calls are timed more often than one asks for, as their few milliseconds catch all that passes.

Scaling to two threads is the CPU time of the critical path (this thread and the busiest worker) on
one thread over that on two. On an idle machine that is the ratio of wall times; on a busy one wall
time would measure the neighbours.
"""

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

Call = Callable[[], object]
WORKER = "dreamlab-ops"
"""How the names of the threads begin on which `dreamlab.ops` runs its kernels."""
ENOUGH_MILLISECONDS = 200.0
"""Calls that took less in all are timed again, ..."""
MOST_TURNS = 10
"""... up to so many times as often as one asks for."""
CAN_TIME_THREADS = hasattr(time, "pthread_getcpuclockid")
"""Whether the system keeps a CPU clock for each thread (Linux does)."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a figure should lie."""

    bound: float
    """In the unit of the figure."""
    sense: Literal["≥", "≤"]
    """On which side of the bound."""

    def is_met_by(self, value: float) -> bool:
        """Return whether `value` lies on the right side."""
        return value >= self.bound if self.sense == "≥" else value <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report."""

    what: str
    """What was timed, with its sizes."""
    value: float
    """The ratio, or the time."""
    unit: Literal["×", "ms"]
    """× for a ratio, ms for a time."""
    goal: Goal
    """Where the value should lie."""
    times: dict[str, float]
    """Milliseconds by what took them; a ratio divides two of them."""

    @property
    def is_met(self) -> bool:
        return self.goal.is_met_by(self.value)

    @property
    def plain(self) -> dict[str, Any]:
        """The figure as plain values."""
        goal = f"{self.goal.sense} {self.goal.bound:g} {self.unit}"
        return {
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "goal": goal,
            "met": self.is_met,
            "times_ms": self.times,
        }


def cpu_milliseconds(run: Call) -> float:
    """Time one call: CPU time of the process, ms."""
    begin = time.process_time()
    run()
    return 1e3 * (time.process_time() - begin)


def card_milliseconds(run: Call, device: torch.device) -> float:
    """Time one call on a graphics card: wall time from when it idles to when it does again, ms."""
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - begin)


def medians(
    calls: Mapping[str, Call], repeats: int, stopwatch: Callable[[Call], float] = cpu_milliseconds
) -> dict[str, float]:
    """Time calls in turns, after one of each that is not counted; return their medians, ms."""
    for call in calls.values():
        call()
    turns: list[list[float]] = []
    spent = 0.0
    while len(turns) < repeats or (
        spent < ENOUGH_MILLISECONDS and len(turns) < MOST_TURNS * repeats
    ):
        turns.append([stopwatch(call) for call in calls.values()])
        spent += sum(turns[-1])
    return {
        name: statistics.median(times)
        for name, times in zip(calls, zip(*turns, strict=True), strict=True)
    }


def medians_in_a_row(calls: Mapping[str, Call], repeats: int) -> dict[str, float]:
    """Time each call on its own, again and again; return their medians, ms.

    What a call finds in the caches is its own; in turns it is what the other has left there.
    """
    return {name: medians({name: call}, repeats)[name] for name, call in calls.items()}


def speedup(
    what: str,
    ours: Call,
    torch_reference: Call,
    goal: float,
    repeats: int,
    clock: Callable[[Mapping[str, Call], int], dict[str, float]] = medians,
) -> Figure:
    """Return how many times less we take than plain torch."""
    times = clock({"dreamlab": ours, "plain torch": torch_reference}, repeats)
    return Figure(what, times["plain torch"] / times["dreamlab"], "×", Goal(goal, "≥"), times)


def scaling(what: str, run: Call, goal: float, repeats: int) -> Figure:
    """Return how many times shorter the critical path is on two threads than on one.

    Each in a row, after a call that is not counted: torch starts its own threads anew when their
    number changes. It is 1 afterwards.
    """
    found: list[float] = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        run()
        found.append(statistics.median(critical_milliseconds(run) for _ in range(repeats)))
    torch.set_num_threads(1)
    one, two = found
    return Figure(what, one / two, "×", Goal(goal, "≥"), {"two threads": two, "one thread": one})


def critical_milliseconds(run: Call) -> float:
    """Return the CPU time of this thread plus that of the busiest worker in one call, ms."""
    before = _thread_clocks()
    run()
    spent = {ident: clock - before.get(ident, 0.0) for ident, clock in _thread_clocks().items()}
    own = spent.pop(threading.get_ident())
    return 1e3 * (own + max(spent.values(), default=0.0))


def _thread_clocks() -> dict[int, float]:
    """Return the CPU time so far of this thread and of the workers of `dreamlab.ops`, s."""
    workers = [t for t in threading.enumerate() if t.name.startswith(WORKER)]
    idents = [t.ident for t in (threading.current_thread(), *workers) if t.ident is not None]
    return {ident: time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in idents}
