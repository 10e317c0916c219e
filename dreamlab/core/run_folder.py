"""The run folder: the contract between training, jobs, command line and web.

Every write of a file that others read is atomic: written beside its place, flushed to disk,
renamed. A reader sees the old file or the new one, never half of one, and a kill at any moment
loses nothing that was finished. No torch here: the web process reads run folders too.
"""

import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from dreamlab.core.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`."""
    writer = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}.{writer}.part{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def slug(prompt: str, length: int = 40) -> str:
    """Turn a prompt into a file name: lower-case letters, digits and dashes."""
    name = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    return name[:length].rstrip("-") or "untitled"


class _Inside:
    """A path in a run folder, made when it is asked for: there may be thousands of folders."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: "RunFolder", owner: type) -> Path:
        return folder.root / self.name


class RunFolder:
    """Paths and records of one run; creating the object creates nothing on disk."""

    config = _Inside("config.yaml")
    job = _Inside("job.json")
    lock = _Inside("job.lock")
    control = _Inside("control.json")
    export = _Inside("export.json")
    favourite = _Inside("favourite")
    events = _Inside("events.jsonl")
    log = _Inside("log.txt")
    previews = _Inside("previews")
    checkpoints = _Inside("checkpoints")
    exports = _Inside("exports")
    turntable = _Inside("turntable.mp4")
    preview = _Inside("preview.png")
    image = _Inside("image.png")
    strip = _Inside("strip.png")
    report = _Inside("report.json")
    scores = _Inside("scores.json")

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def create(
        cls, parent: Path, prompt: str, seed: int, now: datetime | None = None
    ) -> "RunFolder":
        """Make a new folder `<date>-<slug>-<seed>` under `parent`; a number is added if it exists.

        Raises:
            InputError: `parent` cannot be written.
        """
        date = (now or datetime.now()).strftime("%Y%m%d-%H%M%S")
        name = f"{date}-{slug(prompt)}-{seed}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for attempt in range(1000):
                root = parent / (name if attempt == 0 else f"{name}-{attempt}")
                try:
                    root.mkdir()
                    break
                except FileExistsError:
                    continue
            else:
                raise InputError(
                    f"{parent} holds 1000 runs named {name}.", "choose another folder."
                )
            folder = cls(root)
            for path in (folder.previews, folder.checkpoints, folder.exports):
                path.mkdir()
        except OSError as error:
            raise InputError(
                f"cannot write to {parent}: {error.strerror or error}.",
                "choose a folder you may write to with --output.",
            ) from None
        return folder

    @classmethod
    def open(cls, root: Path) -> "RunFolder":
        """Open an existing run folder.

        Raises:
            InputError: there is no run at `root`.
        """
        folder = cls(root)
        if not folder.config.is_file():
            raise InputError(
                f"{root} is not a run folder (it has no config.yaml).",
                "give the path of a folder that `dreamlab generate` made.",
            )
        return folder

    def append_event(self, kind: str, **values: Any) -> None:
        """Append one line to events.jsonl: its kind, the time and the values.

        A line that an earlier process was killed in is ended first, so it spoils only itself.
        """
        line = json.dumps({"kind": kind, "time": round(time.time(), 3), **values}, allow_nan=False)
        with open(self.events, "a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else "\n" + line
            file.write(line.encode() + b"\n")

    def read_events(self) -> list[dict[str, Any]]:
        """Read all complete events; a line cut by a kill is left out."""
        if not self.events.exists():
            return []
        events: list[dict[str, Any]] = []
        for line in self.events.read_text(encoding="utf-8").split("\n")[:-1]:
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return events
