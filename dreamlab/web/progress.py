"""How far a run is, read from the end of its events and the head of its settings.

    progress = TRAINING (S_before + s) / S_all    while it trains
               TRAINING                           while it exports
               1                                  when it is done

Glossary: `s` steps of the present stage that are done, `S_before` steps of the stages before it,
`S_all` steps of all stages.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dreamlab.core.config import LOADER, UNREADABLE, check_yaml

TRAINING = 0.9
"""Part of a run that is training; the rest is the export and the turntable."""
TAIL_BYTES = 1 << 15
"""Of events.jsonl that are looked at: some hundred events."""
STEP = b'{"kind": "step",'
"""How the line of a step begins."""


@dataclass(frozen=True, slots=True)
class Head:
    """What config.yaml says; a job.json of an early version repeats none of it."""

    prompt: str = ""
    negative_prompt: str = ""
    recipe: str = ""
    quality: str = ""
    stages: tuple[tuple[str, int], ...] = ()
    """Name and steps of each stage, in order."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run is."""

    step: int | None
    """Steps of the stage that are done."""
    steps: int | None
    """Steps of the stage in all."""
    progress: float
    """Part of the run that is done."""
    eta: float | None
    """Seconds until the training ends, when the last event was written."""


def read_head(path: Path) -> Head:
    """Read the head of a config.yaml; an empty one if it is not one of ours."""
    try:
        text = path.read_text(encoding="utf-8")
        check_yaml(text)
        content = yaml.load(text, Loader=LOADER)  # a safe loader
        stages = content["stages"].items()
        fields = ("prompt", "negative_prompt", "recipe", "quality")
        return Head(
            *(str(content.get(field, "")) for field in fields),
            stages=tuple((str(name), int(stage["steps"])) for name, stage in stages),
        )
    except (OSError, KeyError, *UNREADABLE):
        return Head()


def last_step(path: Path) -> Mapping[str, Any]:
    """Return the last "step" near the end of events.jsonl, empty if there is none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read(TAIL_BYTES).split(b"\n")[:-1]
    except OSError:
        return {}
    for line in reversed(lines):
        if line.startswith(STEP):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return {}


def position(state: str, phase: str, head: Head, step: Mapping[str, Any]) -> Position:
    """Say where a run is.

    Args:
        state: of the run.
        phase: that it is, or was last, in.
        head: of its settings.
        step: the last event of that kind.
    """
    names = [name for name, _ in head.stages]
    total = sum(steps for _, steps in head.stages)
    stage, done = step.get("stage"), step.get("step", 0)
    reached = 0.0
    if stage in names and total > 0 and isinstance(done, int):
        before = sum(steps for _, steps in head.stages[: names.index(stage)])
        reached = min(1.0, (before + done) / total)
    if state == "done":
        return Position(None, None, 1.0, None)
    if phase in names:
        steps = dict(head.stages)[phase]
        of_phase = done if stage == phase else 0
        eta = step.get("eta") if state == "running" and stage == phase else None
        return Position(of_phase, steps, round(TRAINING * reached, 4), eta)
    return Position(None, None, round(TRAINING * reached, 4), None)
