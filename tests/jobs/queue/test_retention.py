"""Claims about what is removed to save space, and what never is."""

import os

import pytest

from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.jobs.queue.retention import DAY, GB, Retention, enforce, size_of

MB = 1_000_000


@pytest.fixture
def finished(new_run):
    def make(age_days: float, end: str = "done", mark: bool = False) -> RunFolder:
        run = new_run(state=end, finished=state.now() - age_days * DAY)
        for name in ("last", "previous"):
            (run.checkpoints / f"{name}.safetensors").write_bytes(bytes(MB))
        (run.exports / "model.glb").write_bytes(bytes(MB))
        if mark:
            run.favourite.touch()
        return run

    return make


def has_checkpoints(run: RunFolder) -> bool:
    return any(run.checkpoints.glob("*.safetensors"))


def test_old_checkpoints_of_finished_runs_go_and_everything_else_stays(finished, tmp_path):
    old, young, marked = finished(9), finished(1), finished(9, mark=True)
    resumable = [finished(9, end) for end in ("stopped", "failed", "paused", "queued")]
    usage = enforce(tmp_path / "runs", Retention(checkpoint_days=5.0))
    assert usage.freed == 2 * MB and not usage.is_over
    assert not has_checkpoints(old)
    assert all(has_checkpoints(run) for run in (young, marked, *resumable))
    assert all((run.exports / "model.glb").exists() for run in (old, young, marked))
    assert old.read_events()[-1]["kind"] == "checkpoints_removed"


def test_the_quota_takes_the_oldest_checkpoints_first_and_no_more_than_needed(finished, tmp_path):
    runs = [finished(age) for age in (3, 1, 2)]
    parent = tmp_path / "runs"
    usage = enforce(parent, Retention(quota_gb=(size_of(parent) - MB) / GB))
    assert [has_checkpoints(run) for run in runs] == [False, True, True]
    assert not usage.is_over and abs(usage.used - size_of(parent)) < MB / 10


def test_whole_runs_are_removed_only_if_told_to(finished, tmp_path):
    old, young, marked = finished(3), finished(2), finished(4, mark=True)
    parent, policy = tmp_path / "runs", Retention(quota_gb=4.5 * MB / GB)
    assert enforce(parent, policy).is_over
    assert all((run.exports / "model.glb").exists() for run in (old, young, marked))
    usage = enforce(parent, Retention(quota_gb=4.5 * MB / GB, delete_runs=True))
    assert not usage.is_over and not old.root.exists()
    assert young.root.exists() and has_checkpoints(marked)


def test_a_run_that_is_in_use_is_left_alone(finished, tmp_path):
    run = finished(9)
    with state.held(run):
        enforce(tmp_path / "runs", Retention(checkpoint_days=0.0, quota_gb=0.0, delete_runs=True))
    assert has_checkpoints(run)


def test_remains_of_a_killed_deletion_are_removed(new_run, tmp_path):
    run = new_run()
    os.rename(run.root, run.root.with_name(".deleted-x"))
    enforce(tmp_path / "runs", Retention())
    assert not list((tmp_path / "runs").glob(".deleted*"))


@pytest.mark.parametrize("wrong", [{"quota_gb": -1.0}, {"checkpoint_days": -1.0}])
def test_a_negative_limit_is_refused(wrong):
    with pytest.raises(ValueError, match="negative"):
        Retention(**wrong)
