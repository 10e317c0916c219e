"""What events.jsonl says about a run, read on from where the last look ended.

A page looks once a second, and a long run writes thousands of lines, so only new ones are read.
Losses are those of step events, with steps counted over all stages.
"""

import json
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from dreamlab.core.run_folder import RunFolder

MAX_FOLLOWED = 64
"""Runs whose events are kept in memory."""


@dataclass(slots=True)
class Story:
    """What has happened in a run up to now."""

    stages: dict[str, int] = field(default_factory=dict)
    """Stages that have begun and their steps, in order."""
    steps: dict[str, int] = field(default_factory=dict)
    """Steps of each stage that are done."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Phases that are complete and what they took."""
    losses: list[tuple[str, int, float]] = field(default_factory=list)
    """Stage, step in it, loss."""
    memory: list[tuple[str, int, float]] = field(default_factory=list)
    """Stage, step in it, GB that the process held."""
    rate: float = 0.0
    """Steps per second at the last step."""
    offset: int = 0
    """Bytes that are read."""

    def copy(self) -> "Story":
        """Return what others do not go on with."""
        return replace(
            self,
            stages=dict(self.stages),
            steps=dict(self.steps),
            seconds=dict(self.seconds),
            losses=list(self.losses),
            memory=list(self.memory),
        )

    def take(self, event: dict[str, Any]) -> None:
        """Add one event."""
        kind = event.get("kind")
        if kind == "phase" and event.get("steps"):
            self.stages[event["phase"]] = int(event["steps"])
        elif kind == "phase_done":
            self.seconds[event["phase"]] = float(event["seconds"])
        elif kind == "step":
            stage, step = event["stage"], int(event["step"])
            self.stages[stage], self.steps[stage] = int(event["steps"]), step
            self.rate = float(event.get("rate") or 0.0)
            _add(self.losses, stage, step, event.get("loss"))
            _add(self.memory, stage, step, event.get("memory_gb"))


def _add(series: list[tuple[str, int, float]], stage: str, step: int, value: float | None) -> None:
    while series and series[-1][0] == stage and series[-1][1] >= step:
        series.pop()  # it went on from an earlier checkpoint
    if value is not None:
        series.append((stage, step, float(value)))


class Follower:
    """Reads the events of many runs; safe to use from several threads."""

    def __init__(self) -> None:
        self._stories: OrderedDict[str, Story] = OrderedDict()
        self._lock = threading.Lock()

    def story(self, folder: RunFolder) -> Story:
        """Return what has happened; complete lines only."""
        with self._lock:
            key = str(folder.root)
            story = self._stories.pop(key, None) or Story()
            try:
                with open(folder.events, "rb") as file:
                    if file.seek(0, os.SEEK_END) < story.offset:  # written anew
                        story = Story()
                    file.seek(story.offset)
                    content = file.read()
            except OSError:  # there are none, or none any more
                story, content = Story(), b""
            _take_lines(story, content)
            self._stories[key] = story
            while len(self._stories) > MAX_FOLLOWED:
                self._stories.popitem(last=False)
            return story.copy()


def _take_lines(story: Story, content: bytes) -> None:
    """Add the events of complete lines; a half one is read again."""
    whole = content.rfind(b"\n") + 1
    story.offset += whole
    for line in content[:whole].splitlines():
        try:
            story.take(json.loads(line))
        except (ValueError, KeyError, TypeError):
            continue  # cut by a kill


def tail(folder: RunFolder, lines: int = 40, limit: int = 16_384) -> str:
    """Return the last lines of the log; empty if there is none."""
    try:
        with open(folder.log, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
