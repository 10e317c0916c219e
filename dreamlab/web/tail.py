"""The events of a run as they are written: its lines, numbered from 1, each read once."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_READ = 1 << 20
"""Bytes that are read at once."""


@dataclass(frozen=True, slots=True)
class Line:
    """An event."""

    number: int
    """Of its line."""
    kind: str
    """What happened."""
    text: str
    """The line: one JSON object."""

    @property
    def values(self) -> dict[str, Any]:
        """The event with all its values."""
        return json.loads(self.text)


class Tail:
    """Reads a file of events on; lines that are no events are counted and left out."""

    def __init__(self, path: Path, since: int = 0) -> None:
        """Begin after line number `since`."""
        self.path, self.since = path, since
        self._number = self._offset = 0

    def read(self) -> list[Line]:
        """Return the events that are complete and were not returned before."""
        found: list[Line] = []
        while lines := list(self._next()):
            found += [line for line in lines if line.kind and line.number > self.since]
        return found

    def _next(self) -> Iterator[Line]:
        """Read some lines; those that are no events have no kind."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                content = file.read(MAX_READ)
        except OSError:
            return
        end = content.rfind(b"\n") + 1
        self._offset += end
        for raw in content[:end].split(b"\n")[:-1]:
            self._number += 1
            yield _line(self._number, raw)


def _line(number: int, raw: bytes) -> Line:
    try:
        event = json.loads(raw)
        kind = event["kind"]
        if not isinstance(kind, str) or not kind.isidentifier():
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        return Line(number, "", "")
    return Line(number, kind, json.dumps(event, separators=(",", ":")))
