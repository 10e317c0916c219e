"""Stopping a run so that its result is kept.

The flag is looked at once a step. The first Ctrl-C (or SIGTERM) raises it: the run writes a
checkpoint and goes on to export what it has. A second Ctrl-C ends the process at once.

A run can also be told to end without an export, see `Wish`.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal, get_args

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Wish = Literal["hand_back", "pause", "stop", "cancel"]
"""How a run is to end, each with a checkpoint: another process goes on with it; it waits for the
user; what it has is exported; nobody wants it any more. Of several wishes the last in this list
counts."""
WISHES: tuple[Wish, ...] = get_args(Wish)


class StopFlag:
    """Tells a run to end; may be set from any thread or signal handler."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.wish: Wish | None = None

    def set(self, wish: Wish = "stop") -> None:
        if self.wish is None or WISHES.index(wish) > WISHES.index(self.wish):
            self.wish = wish
        self._event.set()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep until it is set, but no longer than that; return whether it is."""
        return self._event.wait(seconds)


@contextmanager
def stop_on_signals(flag: StopFlag) -> Iterator[StopFlag]:
    """Set `flag` on SIGINT and SIGTERM while inside; earlier handlers come back afterwards.

    A second SIGINT raises KeyboardInterrupt, a second SIGTERM ends the process. Python delivers
    signals to its main thread only, so this must be called there.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        flag.set()
        second = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, second)

    earlier = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield flag
    finally:
        for number, handler in earlier.items():
            # None stands for a handler that was not installed by Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
