"""Claims about job.json: what may follow what, and who may run a folder."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder, write_json
from dreamlab.jobs import lock, retry, state
from dreamlab.jobs.lock import BusyError
from dreamlab.jobs.state import Job


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path)


def test_a_run_is_queued_then_running_then_done(folder):
    assert state.create(folder).state == "queued"
    with state.held(folder):
        running = state.begin(folder, "cpu")
        assert (running.state, running.pid, running.device) == ("running", os.getpid(), "cpu")
        assert state.read(folder) == running and state.is_alive(folder, running)
        state.enter_phase(folder, "export")
        done = state.finish(folder, "done")
    assert state.read(folder) == done
    assert (done.state, done.phase, done.pid) == ("done", "export", None)
    assert not state.is_alive(folder, done)
    assert done.created <= done.started <= done.finished


def test_a_failed_run_says_why_until_it_is_begun_again(folder):
    state.begin(folder)
    failed = retry.fail(folder, 4, "no memory.", "use less.")
    assert (failed.state, failed.code) == ("failed", 4)
    assert (failed.reason, failed.fix) == ("no memory.", "use less.")
    again = state.begin(folder)
    assert (again.reason, again.fix, again.finished) == ("", "", None)


@pytest.mark.parametrize("end", ["done", "failed"])
def test_a_queued_run_cannot_end_without_running(folder, end):
    state.create(folder)
    with pytest.raises(ValueError, match="cannot go"):
        state.finish(folder, end)


def test_a_running_job_whose_process_is_gone_reads_as_failed_and_can_begin_again(folder):
    for pid in (None, os.getpid(), 2**22):  # the number may belong to another program by now
        write_json(folder.job, {"state": "running", "pid": pid})
        assert state.read(folder).state == "failed"
    with state.held(folder):
        assert state.begin(folder).state == state.read(folder).state == "running"


def test_a_folder_that_another_process_runs_is_not_run_twice_until_that_is_killed(folder):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from dreamlab.core.run_folder import RunFolder\n"
        "from dreamlab.jobs import state; folder = RunFolder(Path(sys.argv[1]))\n"
        "with state.held(folder): state.begin(folder); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(folder.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert state.read(folder).pid == process.pid
        with pytest.raises(BusyError, match=str(process.pid)), state.held(folder):
            pass
        process.kill()
    assert state.read(folder).state == "failed" and "killed" in state.read(folder).reason
    with state.held(folder):
        state.begin(folder)


def test_a_run_on_another_machine_is_alive_while_its_lock_is_touched(folder):
    write_json(folder.job, {"state": "running", "pid": 1, "host": "elsewhere"})
    folder.lock.touch()
    assert state.read(folder).state == "running"
    with pytest.raises(BusyError, match="elsewhere"), state.held(folder):
        pass
    long_ago = time.time() - 2 * lock.STALE_SECONDS
    os.utime(folder.lock, (long_ago, long_ago))
    assert state.read(folder).state == "failed"
    with state.held(folder):
        pass


def test_a_run_outlives_that_its_machine_slept_and_woke_up_under_another_name(folder, monkeypatch):
    with lock.hold(folder.lock, beat=False):
        state.begin(folder)
        long_ago = time.time() - 2 * lock.STALE_SECONDS
        os.utime(folder.lock, (long_ago, long_ago))
        monkeypatch.setattr(state, "host", lambda: "renamed")
        assert state.read(folder).state == "running"
        with pytest.raises(BusyError), state.held(folder):
            pass
        assert state.finish(folder, "paused").state == state.read(folder).state == "paused"
    with state.held(folder):
        assert state.begin(folder).host == "renamed"


def test_a_lock_that_is_held_is_touched_again_and_again(folder, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with lock.hold(folder.lock):
        os.utime(folder.lock, (1, 1))
        deadline = time.monotonic() + 5
        while folder.lock.stat().st_mtime == 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lock.beats(folder.lock)


def test_a_lock_of_a_folder_that_was_replaced_is_not_taken(folder, tmp_path_factory):
    with lock.hold(folder.lock):
        folder.lock.rename(tmp_path_factory.mktemp("trash") / "lock")
        with lock.hold(folder.lock):  # another file: the first holder holds what is gone
            assert lock.is_held(folder.lock)
    assert not lock.is_held(folder.lock)


def test_who_looks_whether_a_run_is_alive_never_keeps_another_from_holding_it(folder):
    state.create(folder)
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            lock.is_held(folder.lock)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(50):
            with lock.hold(folder.lock, beat=False):
                pass
    finally:
        done.set()
        for looker in lookers:
            looker.join()


def test_readers_see_whole_records_while_one_writes_and_is_killed(folder):
    state.create(folder)
    code = (
        "import sys; from pathlib import Path; from dreamlab.core.run_folder import RunFolder\n"
        "from dreamlab.jobs import state; folder = RunFolder(Path(sys.argv[1]))\n"
        "with state.held(folder):\n"
        "  state.begin(folder)\n"
        "  for i in range(10**6): state.enter_phase(folder, 'x' * (i % 5000))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder.root)]) as process:
        deadline = time.monotonic() + 10
        while state.read_record(folder).state == "queued" and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(200):
            assert set(state.read_record(folder).phase) <= {"x"}
        process.kill()
    assert set(state.read_record(folder).phase) <= {"x"}
    with state.held(folder):
        state.begin(folder)
    assert not list(folder.root.glob(".*.part*")), "remains of the killed writer"


class TestRetries:
    def test_a_job_of_the_queue_is_tried_again_after_crashes_with_growing_pauses(self, folder):
        state.create(folder, Job(is_queued=True))
        pauses = []
        for attempt in range(1, retry.MAX_CRASHES + 1):
            state.begin(folder, is_queued=True)
            job = retry.crash(folder, "its process was killed")
            assert job.crashes == attempt
            if job.state == "queued":
                pauses.append(job.not_before - job.finished)
        assert job.state == "failed" and f"{retry.MAX_CRASHES} times" in job.reason
        assert len(pauses) == retry.MAX_CRASHES - 1 and pauses[1] > 1.5 * pauses[0] > 0

    def test_a_job_that_gets_on_between_its_crashes_is_never_given_up(self, folder):
        folder.checkpoints.mkdir()
        state.create(folder, Job(is_queued=True))
        for _ in range(3 * retry.MAX_CRASHES):
            state.begin(folder, is_queued=True)
            checkpoint = folder.checkpoints / "last.safetensors"
            checkpoint.write_bytes(b"")
            later = time.time() + 1
            os.utime(checkpoint, (later, later))
            assert retry.crash(folder, "killed").state == "queued"

    @pytest.mark.parametrize(
        ("code", "states"),
        [(2, ["failed"]), (3, ["failed"]), (4, ["queued", "failed"]), (5, ["failed"])],
    )
    def test_errors_that_would_come_again_are_not_retried(self, folder, code, states):
        state.create(folder, Job(is_queued=True))
        for expected in states:
            state.begin(folder, is_queued=True)
            assert retry.fail(folder, code, "why.", "how.").state == expected

    def test_what_a_user_runs_by_hand_is_not_retried(self, folder):
        state.create(folder, Job(is_queued=True))
        state.begin(folder)
        assert retry.crash(folder, "killed.").state == "failed"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "sleeping"}', '{"stat": "done"}'])
def test_a_damaged_record_is_refused_with_the_fix(folder, text):
    folder.job.write_text(text)
    with pytest.raises(InputError):
        state.read(folder)


def test_the_record_is_plain_json(folder):
    state.create(folder)
    assert json.loads(folder.job.read_text())["state"] == "queued"


def test_whoever_begins_a_run_clears_what_a_killed_process_had_half_written(folder):
    state.create(folder)
    halves = [folder.checkpoints / ".last.safetensors.1-2.part", folder.exports / ".a.1-2.part.glb"]
    for half in (*halves, folder.checkpoints / "last.safetensors"):
        half.parent.mkdir(exist_ok=True)
        half.touch()
    with state.held(folder):
        state.begin(folder)
    assert not any(half.exists() for half in halves)
    assert (folder.checkpoints / "last.safetensors").exists()
