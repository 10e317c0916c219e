import json
from pathlib import Path

import pytest

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import phases as phases_module
from dreamlab.jobs import state
from dreamlab.jobs.ledger import Ledger, ledger_path, read_ledger, write_ledger
from dreamlab.jobs.phases import Phases
from dreamlab.training.events import Event

EARLIER = Ledger(20.0, {"load prior": 2.0, "nerf": 15.0}, {"rss_gb": 1.5}, {"nerf": {"loss": 3.0}})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path, "a ball", 0)
    state.create(folder)
    return folder


class Clock:
    """Time that passes only when it is told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(phases_module, "time", clock)
    monkeypatch.setattr(phases_module, "peak_memory", lambda: {"rss_gb": 0.7})
    return clock


def step(number: int, loss: float) -> Event:
    return Event("step", {"stage": "nerf", "step": number, "loss": loss, "metrics": {}})


def test_times_add_up_and_of_memory_the_most_counts() -> None:
    later = Ledger(5.0, {"nerf": 3.0, "export": 1.0}, {"rss_gb": 1.0, "gpu_gb": 2.0}, {})
    total = EARLIER.plus(later)
    assert total.total == 25.0
    assert list(total.seconds.items()) == [("load prior", 2.0), ("nerf", 18.0), ("export", 1.0)]
    assert total.memory == {"rss_gb": 1.5, "gpu_gb": 2.0}
    assert total.metrics == {"nerf": {"loss": 3.0}}


def test_what_is_written_is_read(folder: RunFolder) -> None:
    assert read_ledger(folder) == Ledger()
    write_ledger(folder, EARLIER)
    assert read_ledger(folder) == EARLIER


@pytest.mark.parametrize("content", ["{", "[]", '{"total": "x"}', '{"hours": 1}'])
def test_a_damaged_record_is_refused_with_a_fix(folder: RunFolder, content: str) -> None:
    ledger_path(folder).write_text(content)
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_ledger(folder)
    assert "delete" in caught.value.fix


def test_a_process_that_is_killed_loses_only_what_came_after_its_last_checkpoint(
    folder: RunFolder, clock: Clock
) -> None:
    phases = Phases(folder, None, EARLIER)
    phases.on_training_event(Event("phase", {"phase": "nerf"}))
    clock.now += 4.0
    phases.on_training_event(step(1, loss=1.0))
    phases.on_training_event(Event("checkpoint", {"stage": "nerf", "step": 1}))
    clock.now += 50.0
    phases.on_training_event(step(2, loss=2.0))
    kept = read_ledger(folder)
    assert kept.total == 24.0 and kept.seconds["nerf"] == 19.0
    assert kept.memory == {"rss_gb": 1.5} and kept.metrics["nerf"] == {"loss": 1.0}


def test_a_stage_ends_where_the_next_one_begins(folder: RunFolder, clock: Clock) -> None:
    heard: list[Event] = []
    phases = Phases(folder, heard.append, Ledger())
    for stage, seconds in (("coarse", 3.0), ("fine", 5.0)):
        phases.on_training_event(Event("phase", {"phase": stage}))
        clock.now += seconds
    phases.end()
    assert read_ledger(folder).seconds == {"coarse": 3.0, "fine": 5.0}
    done = [e.values["phase"] for e in heard if e.kind == "phase_done"]
    assert done == ["coarse", "fine"]


def test_a_job_that_is_no_part_of_the_run_keeps_no_record(folder: RunFolder, clock: Clock) -> None:
    phases = Phases(folder, None)
    with phases.phase("export"):
        clock.now += 1.0
    phases.save()
    assert not ledger_path(folder).exists()
    assert json.loads(folder.events.read_text().splitlines()[-1])["seconds"] == 1.0


def test_a_disk_that_refuses_the_record_does_not_stop_the_run(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.checkpoints.rmdir()
    write_ledger(folder, EARLIER)
    assert "Cannot write" in caplog.text
