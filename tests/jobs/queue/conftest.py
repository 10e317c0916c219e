"""Queued runs that no model is needed for, and supervisors over workers that only count."""

import sys
from functools import partial
from pathlib import Path

import fake_worker
import pytest
from queued_runs import queued_run

from dreamlab.jobs import retry
from dreamlab.jobs.queue import supervisor
from dreamlab.jobs.queue.supervisor import Supervisor

FAKE_WORKER = (sys.executable, fake_worker.__file__)


@pytest.fixture
def new_run(tmp_path):
    """Make a run; fields of its record may be given."""

    return partial(queued_run, tmp_path / "runs")


@pytest.fixture
def supervise(tmp_path, monkeypatch):
    """Make a supervisor of fake workers; their environment may be given."""
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(retry, "PAUSE_SECONDS", 0.01)
    made: list[Supervisor] = []

    def make(*, devices=("cpu",), environment=None, **options) -> Supervisor:
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, str(value))
        parent: Path = tmp_path / "runs"
        made.append(Supervisor(parent, devices, command=FAKE_WORKER, **options))
        return made[-1]

    yield make
    for boss in made:
        boss.kill()
