"""The phases of an export: timed, and told to who watches."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnPhase = Callable[[str, float], None]


class Phases:
    """Times the phases and tells the caller about them."""

    def __init__(self, on_phase: OnPhase) -> None:
        """Begin; `on_phase` is called with the name of a phase and the fraction of it done."""
        self.seconds: dict[str, float] = {}
        """Per phase; of one that is repeated, together."""
        self._on_phase = on_phase

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[[float], None]]:
        """Run a phase; yields a function that reports how much of it is done."""
        begin = time.perf_counter()
        self._on_phase(name, 0.0)
        yield lambda fraction: self._on_phase(name, fraction)
        self._on_phase(name, 1.0)
        before = self.seconds.get(name, 0.0)
        self.seconds[name] = round(before + time.perf_counter() - begin, 3)
