"""Claims about job.json: what may follow what, and who may run a folder."""

import json
import os
import subprocess
import sys

import pytest

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder, write_json
from dreamlab.jobs import state


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_is_queued_then_running_then_done(folder):
    assert state.create(folder).state == "queued"
    running = state.begin(folder)
    assert (running.state, running.pid, running.is_alive) == ("running", os.getpid(), True)
    state.enter_phase(folder, "export")
    done = state.finish(folder, "done")
    assert state.read(folder) == done
    assert (done.state, done.phase, done.pid, done.is_alive) == ("done", "export", None, False)
    assert done.created <= done.started <= done.finished


def test_a_failed_run_says_why_until_it_is_begun_again(folder):
    state.begin(folder)
    failed = state.finish(folder, "failed", "no memory.", "use less.")
    assert (failed.reason, failed.fix) == ("no memory.", "use less.")
    again = state.begin(folder)
    assert (again.reason, again.fix, again.finished) == ("", "", None)


@pytest.mark.parametrize("end", ["done", "failed"])
def test_a_queued_run_cannot_end_without_running(folder, end):
    state.create(folder)
    with pytest.raises(ValueError, match="cannot go"):
        state.finish(folder, end)


def test_a_running_job_whose_process_is_gone_reads_as_failed_and_can_begin_again(folder):
    write_json(folder.job, {"state": "running", "pid": dead_pid()})
    assert state.read(folder).state == "failed"
    assert state.begin(folder).is_alive


def test_a_folder_that_another_process_runs_is_not_run_twice(folder):
    write_json(folder.job, {"state": "running", "pid": os.getppid()})
    with pytest.raises(InputError, match=str(os.getppid())):
        state.begin(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "sleeping"}', '{"stat": "done"}'])
def test_a_damaged_record_is_refused_with_the_fix(folder, text):
    folder.job.write_text(text)
    with pytest.raises(InputError):
        state.read(folder)


def test_the_record_is_plain_json(folder):
    state.create(folder)
    assert json.loads(folder.job.read_text())["state"] == "queued"
