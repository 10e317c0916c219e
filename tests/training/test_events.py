import json
import logging
import math
import os
from pathlib import Path

import pytest

from dreamlab.core.run_folder import RunFolder
from dreamlab.training.events import SECONDS_PER_STEP_EVENT, Event, EventStream, log_to


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def take_steps(stream: EventStream, clock: Clock, count: int, seconds: float) -> None:
    stream.start_clock()
    for step in range(1, count + 1):
        clock.now += seconds
        stream.step("nerf", step, count, left=count - step, loss=1.0, metrics={"opacity": 0.5})


def test_the_listener_hears_every_step_and_the_file_a_bounded_number(tmp_path: Path) -> None:
    heard: list[Event] = []
    clock = Clock()
    stream = EventStream(RunFolder(tmp_path), heard.append, clock)
    take_steps(stream, clock, count=1000, seconds=0.01)
    written = RunFolder(tmp_path).read_events()
    assert len(heard) == 1000
    assert len(written) <= 10 / SECONDS_PER_STEP_EVENT + 2
    assert written[-1]["step"] == 1000, "the last step of a stage is always written"


def test_speed_and_remaining_time_follow_the_clock(tmp_path: Path) -> None:
    heard: list[Event] = []
    clock = Clock()
    take_steps(EventStream(RunFolder(tmp_path), heard.append, clock), clock, 50, 0.2)
    values = heard[19].values
    assert values["rate"] == pytest.approx(5.0, rel=1e-3)
    assert values["eta"] == pytest.approx(30 * 0.2, abs=0.1)


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    stream = EventStream(folder)
    stream.start_clock()
    stream.step("nerf", 1, 1, left=0, loss=math.nan, metrics={"big": math.inf})
    event = folder.read_events()[0]
    assert event["loss"] is None and event["metrics"]["big"] is None


def test_a_line_that_a_kill_has_cut_does_not_spoil_later_ones(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    EventStream(folder).emit("phase", phase="a")
    whole = folder.events.read_bytes()
    folder.events.write_bytes(whole + b'{"kind": "step", "lo')
    EventStream(folder).emit("phase", phase="b")
    assert [event["phase"] for event in folder.read_events()] == ["a", "b"]
    for line in folder.events.read_text().splitlines():
        json.loads(line)


def test_a_file_that_is_one_cut_line_starts_empty(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.events.write_text('{"kind"')
    EventStream(folder)
    assert folder.read_events() == []


def test_events_and_warnings_reach_the_log_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with log_to(folder.log), log_to(folder.log):
        EventStream(folder).emit("phase", phase="nerf")
        logging.getLogger("dreamlab.elsewhere").warning("look out")
    EventStream(folder).emit("phase", phase="later")
    lines = folder.log.read_text().splitlines()
    assert len(lines) == 2
    assert "phase=nerf" in lines[0] and "WARNING look out" in lines[1]


def test_logging_is_left_as_it_was(tmp_path: Path) -> None:
    package = logging.getLogger("dreamlab")
    before = (package.level, list(package.handlers))
    with log_to(tmp_path / "log.txt"):
        pass
    assert (package.level, list(package.handlers)) == before
    assert os.path.exists(tmp_path / "log.txt")
