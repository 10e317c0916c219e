"""Claims about uploaded models: what no run needs goes in the end, what one needs never."""

import os
from pathlib import Path

import pytest

from dreamlab.core.run_folder import write_text
from dreamlab.jobs import state
from dreamlab.jobs.queue import models
from dreamlab.jobs.queue.retention import GB, Retention, enforce

SIZE = 500_000


@pytest.fixture
def model(tmp_path):
    def make(letter: str, days: float) -> Path:
        path = models.folder_of(tmp_path / "runs") / f"{letter * 32}.glb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(SIZE))
        used = state.now() - days * models.DAY
        os.utime(path, (used, used))
        return path

    return make


def test_models_go_when_no_run_has_used_them_for_long(model, tmp_path):
    old, young = model("a", 31), model("b", 29)
    assert enforce(tmp_path / "runs", Retention()).freed == SIZE
    assert not old.exists() and young.exists()
    enforce(tmp_path / "runs", Retention(model_days=None))
    assert young.exists()


@pytest.mark.parametrize("of_run", models.UNFINISHED)
def test_a_model_that_an_unfinished_run_starts_from_stays(model, new_run, tmp_path, of_run):
    needed, other = model("a", 100), model("b", 100)
    run = new_run(state=of_run)
    write_text(run.config, f"stages: {{texture: {{start_from: {needed}}}}}\n")
    assert models.prune(tmp_path / "runs", days=1.0, most_bytes=0) == SIZE
    assert needed.exists() and not other.exists()


def test_where_there_is_no_room_the_oldest_goes_first_and_a_fresh_one_stays(model, tmp_path):
    fresh, old, older = model("a", 0.0), model("b", 2), model("c", 3)
    assert models.prune(tmp_path / "runs", most_bytes=2 * SIZE) == SIZE
    assert fresh.exists() and old.exists() and not older.exists()
    models.prune(tmp_path / "runs", most_bytes=0)
    assert fresh.exists() and not old.exists()


def test_the_quota_takes_models_before_anything_of_a_run(model, new_run, tmp_path):
    run = new_run(state="done", finished=1.0)
    checkpoint = run.checkpoints / "last.safetensors"
    checkpoint.write_bytes(bytes(SIZE))
    old, older = model("a", 2), model("b", 3)
    runs = tmp_path / "runs"
    used = enforce(runs, Retention(quota_gb=1.0)).used
    usage = enforce(runs, Retention(quota_gb=(used - SIZE // 2) / GB))
    assert checkpoint.exists() and old.exists() and not older.exists()
    assert usage.freed >= SIZE
