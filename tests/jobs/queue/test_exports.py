"""Claims about exports that are asked of the queue: the run always comes back to where it was."""

import pytest

from dreamlab.core.errors import InputError
from dreamlab.jobs import retry, state
from dreamlab.jobs.lock import BusyError
from dreamlab.jobs.queue import actions, exports


@pytest.mark.parametrize("before", exports.FROM)
def test_an_export_waits_in_the_queue_and_ends_where_the_run_was(new_run, before):
    run = new_run(state=before, reason="as told.", finished=5.0, crashes=2, is_queued=False)
    job = exports.ask(run, ["export.max_faces=500"])
    assert (job.state, job.is_queued, job.crashes) == ("queued", True, 0)
    wanted = exports.read(run)
    assert wanted is not None and wanted.overrides == ("export.max_faces=500",)
    with state.held(run):
        state.begin(run, is_queued=True)
        job = exports.end(run, wanted)
    assert (job.state, job.reason, job.finished) == (before, "as told.", 5.0)
    assert exports.read(run) is None


@pytest.mark.parametrize("wish", actions.ENDS)
@pytest.mark.parametrize("is_begun", [False, True])
def test_to_end_an_export_harms_no_run_that_is_complete(new_run, wish, is_begun):
    run = new_run(state="done")
    exports.ask(run, [])
    if is_begun:  # by a process that is gone
        with state.held(run):
            state.begin(run, is_queued=True)
    assert actions.request(run, wish).state == state.read(run).state == "done"
    assert exports.read(run) is None


@pytest.mark.parametrize("before", ["queued", "paused", "failed", "cancelled"])
def test_only_what_has_ended_with_a_model_is_exported(new_run, before):
    with pytest.raises(InputError, match=before):
        exports.ask(new_run(state=before), [])


def test_a_run_that_somebody_works_on_is_not_exported(new_run):
    run = new_run(state="done")
    with state.held(run), pytest.raises(BusyError):
        exports.ask(run, [])


def test_what_is_resumed_is_trained_and_not_exported(new_run):
    run = new_run(state="stopped")
    exports.ask(run, [])
    with state.held(run):
        state.begin(run, is_queued=True)
        state.finish(run, "stopped")  # the process died before it removed the file
    actions.resume(run)
    assert exports.read(run) is None


def test_an_export_is_given_up_before_its_run_counts_as_failed():
    assert exports.MAX_ATTEMPTS < retry.MAX_CRASHES


@pytest.mark.parametrize("text", ["", "[]", '{"overrides": 3}', '{"state": "nowhere"}'])
def test_a_file_that_is_not_ours_asks_nothing(new_run, text):
    run = new_run()
    run.export.write_text(text)
    assert exports.read(run) is None
