"""Queued runs that no model is needed for, and supervisors over workers that only count."""

import sys
from pathlib import Path

import fake_worker
import pytest

from dreamlab.core.run_folder import RunFolder, write_text
from dreamlab.jobs import retry, state
from dreamlab.jobs.queue import supervisor
from dreamlab.jobs.queue.supervisor import Supervisor
from dreamlab.jobs.state import Job

FAKE_WORKER = (sys.executable, fake_worker.__file__)


@pytest.fixture
def new_run(tmp_path):
    """Make a run; fields of its record may be given."""

    def make(prompt: str = "a ball", seed: int = 0, **fields) -> RunFolder:
        folder = RunFolder.create(tmp_path / "runs", prompt, seed)
        write_text(folder.config, f"prompt: {prompt}\nseed: {seed}\nrecipe: toybox\n")
        about = {"is_queued": True, "prompt": prompt, "seed": seed, "recipe": "toybox"}
        state.create(folder, Job(**{**about, **fields}))
        return folder

    return make


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
