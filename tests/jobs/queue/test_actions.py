"""Claims about what a user can do with runs that nobody works on."""

import os

import pytest

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.jobs.control import listening, read_request, write_request
from dreamlab.jobs.lock import BusyError
from dreamlab.jobs.queue import actions
from dreamlab.jobs.state import NEXT, STATES, Job
from dreamlab.training.stop import StopFlag


def test_every_state_can_be_reached_and_left():
    assert set(NEXT) == set(STATES)
    assert {after for states in NEXT.values() for after in states} == set(STATES)


@pytest.mark.parametrize(
    ("before", "wish", "after"),
    [
        ("queued", "cancel", "cancelled"),
        ("queued", "pause", "paused"),
        ("queued", "stop", "stopped"),
        ("paused", "cancel", "cancelled"),
        ("failed", "cancel", "cancelled"),
        ("cancelled", "cancel", "cancelled"),
        ("running", "cancel", "cancelled"),  # its process is gone
        ("paused", "stop", None),
        ("done", "cancel", None),
        ("failed", "pause", None),
    ],
)
def test_a_request_to_a_run_at_rest_is_answered_at_once_or_refused(new_run, before, wish, after):
    run = new_run(state=before)
    if after is None:
        with pytest.raises(InputError, match=before):
            actions.request(run, wish)
        assert state.read(run).state == before
    else:
        assert actions.request(run, wish).state == state.read(run).state == after


@pytest.mark.parametrize("before", ["paused", "failed", "stopped", "cancelled", "running"])
def test_what_has_ended_can_be_queued_again_and_its_past_is_forgiven(new_run, before):
    run = new_run(state=before, crashes=3, memory_errors=1, is_queued=False, not_before=1e12)
    write_request(run, "stop")
    job = actions.resume(run)
    assert (job.state, job.is_queued, job.crashes, job.memory_errors) == ("queued", True, 0, 0)
    assert job.not_before == 0 and read_request(run) is None


def test_what_is_complete_or_at_work_cannot_be_resumed(new_run):
    with pytest.raises(InputError, match="complete"):
        actions.resume(new_run(state="done"))
    run = new_run()
    with state.held(run), pytest.raises(BusyError):
        actions.resume(run)


def test_a_request_reaches_the_process_that_works_on_the_run(new_run):
    run, flag = new_run(), StopFlag()
    with state.held(run), listening(run, flag):
        state.begin(run, is_queued=True)
        assert actions.request(run, "pause").state == "running"
        assert flag.wait(10.0) and flag.wish == "pause"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"request": "explode"}', '{"request": ["stop"]}'])
def test_a_control_file_that_is_not_ours_asks_nothing(new_run, text):
    run = new_run()
    run.control.write_text(text)
    assert read_request(run) is None


def test_a_copy_has_the_settings_and_a_life_of_its_own(new_run):
    run = new_run("a red ball", seed=4, state="done", priority=2, crashes=2)
    copy = actions.duplicate(run)
    assert copy.root != run.root and copy.config.read_text() == run.config.read_text()
    job = state.read(copy)
    assert (job.state, job.prompt, job.seed, job.priority) == ("queued", "a red ball", 4, 2)
    assert job.crashes == 0 and job.created > 0


def test_a_run_that_is_deleted_is_gone_and_one_at_work_is_not(new_run):
    run, busy = new_run(), new_run()
    actions.delete(run)
    assert not run.root.exists() and not list(busy.root.parent.glob(".deleted*"))
    with state.held(busy), pytest.raises(BusyError):
        actions.delete(busy)
    assert busy.job.exists()


def test_priority_and_mark_can_be_changed(new_run):
    run = new_run()
    assert actions.set_priority(run, 7).priority == state.read(run).priority == 7
    actions.set_favourite(run, True)
    assert run.favourite.exists()
    actions.set_favourite(run, False)
    actions.set_favourite(run, False)
    assert not run.favourite.exists()


def test_a_run_without_a_record_is_refused_with_its_path(tmp_path):
    for action in (lambda run: actions.request(run, "stop"), actions.resume, actions.delete):
        with pytest.raises(InputError, match="none"):
            action(RunFolder(tmp_path / "none"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(new_run):
    run = new_run()
    run.root.chmod(0o500)
    with pytest.raises(InputError, match="cannot write"):
        actions.resume(run)


def test_a_run_is_repeated_with_changes(tmp_path, small_settings):
    from dreamlab.jobs.recipes import load_recipe, load_run_config

    config = load_recipe("toybox", "draft", small_settings, prompt="a red mushroom")
    first = actions.submit(config, tmp_path, priority=3)
    assert state.read(first) == Job(
        is_queued=True,
        priority=3,
        prompt="a red mushroom",
        recipe="toybox",
        quality="draft",
        created=state.read(first).created,
    )
    second = actions.rerun(first, ["export.max_faces=700"], seed=5)
    changed = load_run_config(second.config)
    assert (changed.seed, changed.export.max_faces, changed.prompt) == (5, 700, "a red mushroom")
    assert state.read(second).seed == 5 and state.read(second).is_queued
    with pytest.raises(InputError, match="max_fces"):
        actions.rerun(first, ["export.max_fces=700"])
