"""Claims about the progress display: bars on a terminal, sparse lines elsewhere, JSON if asked."""

import io
import json

import pytest
from rich.console import Console

from dreamlab.cli.output import Output
from dreamlab.cli.progress import Display, display
from dreamlab.training.events import Event

STEPS = 100
EVENTS = [
    Event("phase", {"phase": "nerf", "steps": STEPS}),
    *(
        Event("step", {"stage": "nerf", "step": i + 1, "steps": STEPS, "rate": 8.0, "eta": 75.0})
        for i in range(STEPS)
    ),
    Event("phase_done", {"phase": "nerf", "seconds": 12.5}),
    Event("phase", {"phase": "export", "steps": None}),
    Event("progress", {"phase": "export", "fraction": 0.5, "part": "unwrap"}),
    Event("phase_done", {"phase": "export", "seconds": 3.0}),
]


def test_without_a_terminal_a_line_is_written_for_every_tenth_of_the_steps(capsys):
    with display(Output()) as show:
        for event in EVENTS:
            show(event)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0] == "nerf (100 steps) ..."
    assert lines[1] == "nerf 10/100  8.0 it/s  1:15 left"
    assert lines[11] == "nerf done in 12.5 s"
    assert lines[12:] == ["export ...", "export done in 3.0 s"]


def test_quiet_shows_no_progress(capsys):
    with display(Output(quiet=True)) as show:
        for event in EVENTS:
            show(event)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_json_writes_every_event_as_a_line_on_stdout(capsys):
    with display(Output(json=True, quiet=True)) as show:
        for event in EVENTS:
            show(event)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in lines] == [event.kind for event in EVENTS]
    assert lines[1]["step"] == 1


def test_on_a_terminal_every_phase_has_a_bar_with_its_rate_and_time_left(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(Output, "stderr", property(lambda self: console))
    with display(Output()) as show:
        for event in EVENTS:
            show(event)
    text = screen.getvalue()
    for words in ("nerf", "100/100", "8.0 it/s", "1:15 left", "export"):
        assert words in text


@pytest.mark.parametrize("kind", ["restored", "stopped"])
def test_rare_events_get_a_line_of_their_own(capsys, kind):
    Display(Output(), None)(Event(kind, {"stage": "nerf", "step": 7}))
    assert capsys.readouterr().err.strip() == f"{kind}: stage nerf, step 7"
