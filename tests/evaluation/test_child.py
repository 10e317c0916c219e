"""A prompt's process: what it did is recorded, however it ended."""

import sys
import time
from pathlib import Path
from threading import Event, Timer

import pytest

from dreamlab.evaluation.child import Outcome, generate, read_outcome, write_outcome

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")
EATER = (sys.executable, "-c", "x = b'x' * 300_000_000; import time; time.sleep(0.5)")
TALKER = (sys.executable, "-c", "import sys; print('oops', file=sys.stderr); sys.exit(7)")


def test_a_process_that_takes_too_long_is_ended_and_recorded(tmp_path: Path) -> None:
    outcome = generate(tmp_path / "p", "a red duck", [], time_limit=0.5, command=SLEEPER)
    assert outcome.exit_code == -9
    assert "time limit" in outcome.error
    assert 0.5 <= outcome.seconds < 30
    assert read_outcome(tmp_path / "p") == outcome


def test_a_process_that_is_stopped_is_ended_at_once_and_not_recorded(tmp_path: Path) -> None:
    stop, begin = Event(), time.monotonic()
    Timer(0.3, stop.set).start()
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "p", "a red duck", [], time_limit=60.0, command=SLEEPER, stop=stop)
    assert time.monotonic() - begin < 30
    assert read_outcome(tmp_path / "p") is None


def test_a_process_computes_with_as_many_threads_as_it_is_given(tmp_path: Path) -> None:
    saying = "import os, sys; sys.exit(os.environ['OMP_NUM_THREADS'])"
    command = (sys.executable, "-c", saying)
    outcome = generate(tmp_path / "p", "a", [], time_limit=60.0, command=command, threads=3)
    assert outcome.error == "3"


def test_peak_memory_is_that_of_the_process(tmp_path: Path) -> None:
    outcome = generate(tmp_path / "p", "a red duck", [], time_limit=60.0, command=EATER)
    assert outcome.exit_code == 0
    assert 0.3 < outcome.peak_rss_gb < 0.5


def test_what_a_failing_process_said_is_kept(tmp_path: Path) -> None:
    outcome = generate(tmp_path / "p", "a red duck", [], time_limit=60.0, command=TALKER)
    assert (outcome.exit_code, outcome.error, outcome.run) == (7, "oops", "")


def test_the_real_command_line_says_why_it_failed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = generate(
        tmp_path / "p", "a red duck", [f"prior.model={tmp_path / 'empty'}"], time_limit=300.0
    )
    assert outcome.exit_code > 0
    assert "empty" in outcome.error
    assert outcome.run


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"exit_code": "no"}'])
def test_a_damaged_record_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "outcome.json").write_text(content)
    assert read_outcome(tmp_path) is None


def test_records_survive_writing_and_reading(tmp_path: Path) -> None:
    outcome = Outcome(5, 1.5, 2.25, "run", "diverged")
    write_outcome(tmp_path, outcome)
    assert read_outcome(tmp_path) == outcome
