"""What a run tells the outside: events.jsonl, log.txt and a callback for progress bars.

Kinds of events: `phase` (a stage begins), `step`, `preview`, `checkpoint`, `restored`, `resumed`,
`stopped`, `memory` (the prior goes on with less). Every event goes to the callback; steps go to the
file at a bounded rate, each with `memory_gb`, what the process held then. Numbers that JSON cannot
hold become null.
"""

import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamlab.core.run_folder import RunFolder
from dreamlab.training.memory import memory_in_use

logger = logging.getLogger(__name__)
PACKAGE_LOGGER = "dreamlab"

SECONDS_PER_STEP_EVENT = 0.5
"""Steps are written to events.jsonl at most this often."""
SECONDS_PER_LOG_LINE = 10.0
"""Steps are written to log.txt at most this often."""
RATE_WINDOW = 32
"""Steps over which the speed is averaged."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run."""

    kind: str
    """See the module's docstring."""
    values: Mapping[str, Any]
    """Plain values, all finite."""


Listener = Callable[[Event], None]


class EventStream:
    """Hands events to the run folder, the log and a listener."""

    def __init__(
        self,
        folder: RunFolder,
        listener: Listener | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go on writing the folder's events; a line that a kill has cut is removed."""
        self._folder, self._listener, self._clock = folder, listener, clock
        self._written = self._logged = -math.inf
        self._times: deque[float] = deque(maxlen=RATE_WINDOW + 1)
        cut_partial_line(folder.events)

    def emit(self, kind: str, **values: Any) -> None:
        """Report something that happens rarely."""
        event = Event(kind, _jsonable(values))
        self._folder.append_event(kind, **event.values)
        logger.info("%s %s", kind, _as_text(event.values))
        if self._listener:
            self._listener(event)

    def start_clock(self) -> None:
        """Measure the speed from now on."""
        self._times.clear()
        self._times.append(self._clock())

    def step(
        self,
        stage: str,
        step: int,
        steps: int,
        *,
        left: int,
        loss: float,
        metrics: dict[str, float],
    ) -> None:
        """Report a step.

        Args:
            stage: its name.
            step: steps of the stage that are done.
            steps: of the stage.
            left: steps still to do in this stage and those after it.
            loss: total loss of the step.
            metrics: further numbers by name.
        """
        now = self._clock()
        self._times.append(now)
        rate = self.rate
        values = _jsonable(
            {"stage": stage, "step": step, "steps": steps, "loss": loss, "metrics": metrics}
            | {"rate": round(rate, 3), "eta": round(left / rate, 1) if rate > 0 else None}
        )
        is_last = step == steps
        if is_last or now - self._written >= SECONDS_PER_STEP_EVENT:
            self._folder.append_event("step", **values, memory_gb=memory_in_use())
            self._written = now
        if is_last or now - self._logged >= SECONDS_PER_LOG_LINE:
            logger.info("step %s", _as_text(values))
            self._logged = now
        if self._listener:
            self._listener(Event("step", values))

    @property
    def rate(self) -> float:
        """Steps per second over the last `RATE_WINDOW` steps; 0 if not known yet."""
        seconds = self._times[-1] - self._times[0] if self._times else 0.0
        return (len(self._times) - 1) / seconds if seconds > 0 else 0.0


def cut_partial_line(path: Path) -> None:
    """Remove what follows the last line break of a file, so that lines can be appended."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
            os.fsync(file.fileno())


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what the package logs (level INFO and above) to `path` while inside."""
    package = logging.getLogger(PACKAGE_LOGGER)
    if any(getattr(h, "baseFilename", None) == os.path.abspath(path) for h in package.handlers):
        yield
        return
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    earlier_level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.setLevel(earlier_level)
        package.removeHandler(handler)
        handler.close()


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _as_text(values: Mapping[str, Any]) -> str:
    flat = dict(values) | dict(values.get("metrics") or {})
    flat.pop("metrics", None)
    return " ".join(f"{key}={value}" for key, value in flat.items())
