"""What all processes of a run took together, kept beside its checkpoint.

A run that was stopped or killed goes on in another process, so no process alone knows the run's
time and memory. The ledger is written whenever a checkpoint is, when a phase ends and when the
process does; a killed process loses what came after its last checkpoint, as it loses those steps.
Times add up; of memory the most that any process held counts.
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

from dreamlab.core.config import build, to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The sums of a run."""

    total: float = 0.0
    """Wall time of the processes, s."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of every phase, in the order in which they were first entered."""
    memory: dict[str, float] = field(default_factory=dict)
    """Peaks, GB, by kind of memory."""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of the last steps of every stage."""
    rungs: list[str] = field(default_factory=list)
    """What the prior gave up for its memory, by `priors.memory`."""

    def plus(self, other: "Ledger") -> "Ledger":
        """Return this ledger with what a later process took."""
        seconds, memory = dict(self.seconds), dict(self.memory)
        for phase, more in other.seconds.items():
            seconds[phase] = round(seconds.get(phase, 0.0) + more, 3)
        for kind, peak in other.memory.items():
            memory[kind] = max(memory.get(kind, 0.0), peak)
        total = round(self.total + other.total, 3)
        rungs = list(dict.fromkeys([*self.rungs, *other.rungs]))
        return Ledger(total, seconds, memory, self.metrics | other.metrics, rungs)


def ledger_path(folder: RunFolder) -> Path:
    """Return where a run keeps its ledger."""
    return folder.checkpoints / "ledger.json"


def read_ledger(folder: RunFolder) -> Ledger:
    """Read what earlier processes of a run took; nothing if there is no record.

    Raises:
        InputError: the record is damaged.
    """
    path = ledger_path(folder)
    if not path.exists():
        return Ledger()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return build(Ledger, content if isinstance(content, dict) else {"": content})
    except (OSError, ValueError, InputError) as error:
        why = error.message if isinstance(error, InputError) else str(error)
        raise InputError(
            f"{path} cannot be read: {why}",
            "delete it; only the times of the run so far are lost.",
        ) from None


def write_ledger(folder: RunFolder, ledger: Ledger) -> None:
    """Record what the run took so far; a disk that refuses costs the record, not the run."""
    try:
        write_json(ledger_path(folder), to_plain(ledger))
    except OSError as error:
        logger.warning("Cannot write %s: %s.", ledger_path(folder), error.strerror or error)
