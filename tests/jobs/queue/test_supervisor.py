"""Claims about the supervisor, made with worker processes that count instead of training."""

import signal
import threading
import time

import pytest

from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import retry, state
from dreamlab.jobs.control import write_request
from dreamlab.jobs.queue import actions, supervisor
from dreamlab.jobs.queue.retention import Retention
from dreamlab.training.stop import StopFlag

LIMIT = 30.0
LONG = {"FAKE_STEPS": 100_000, "FAKE_SECONDS": 0.005}


def trace(folder: RunFolder) -> list[tuple[int, int]]:
    """Every step that any process made for a run, as (pid, step)."""
    path = folder.root / "trace.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(pid), int(step)) for pid, step in map(str.split, lines)]


def work(boss, until=lambda: False) -> None:
    """Let a supervisor work until its queue is empty, or something has come true."""
    deadline = time.monotonic() + LIMIT
    while not until():
        assert time.monotonic() < deadline, "it takes too long"
        boss.step()
        if boss.is_idle:
            return
        time.sleep(0.01)


def test_queued_runs_are_done_by_priority_and_then_by_age(new_run, supervise):
    made = [new_run(f"number {i}", priority=p) for i, p in enumerate([0, 0, 5])]
    order: list[str] = []
    boss = supervise(
        environment={"FAKE_STEPS": 1},
        on_event=lambda event: order.append(event.values["run"]) if event.kind == "begin" else None,
    )
    work(boss)
    assert order == [str(made[i].root) for i in (2, 0, 1)]
    assert all(state.read(folder).state == "done" for folder in made)


def test_the_next_run_begins_when_one_ends_without_a_look_at_the_others(
    new_run, supervise, monkeypatch
):
    runs = [new_run(f"number {i}") for i in range(3)]
    boss = supervise(environment={"FAKE_STEPS": 1})
    monkeypatch.setattr(supervisor, "POLL_SECONDS", LIMIT)  # nothing but an end wakes it
    boss.step()
    with monkeypatch.context() as patch:
        patch.setattr(boss.index, "refresh", lambda: pytest.fail("looked at all runs"))
        late = new_run("made meanwhile")
        boss.add(late, state.read_record(late))
        for _ in range(3):
            boss.rest()
            boss.step()
        assert [state.read(run).state for run in runs] == ["done"] * 3
    boss.rest()
    boss.step()
    assert state.read(late).state == "done" and boss.is_idle


def test_a_run_that_was_cancelled_since_the_last_look_is_not_begun(new_run, supervise):
    first, second = new_run("first"), new_run("second")
    boss = supervise(environment={"FAKE_STEPS": 1})
    boss.step()
    actions.request(second, "cancel")
    work(boss)
    assert (state.read(first).state, state.read(second).state) == ("done", "cancelled")
    assert not trace(second)


def test_a_run_of_the_command_line_is_left_to_its_caller(new_run, supervise):
    mine, other = new_run(is_queued=False), new_run()
    work(supervise(environment={"FAKE_STEPS": 1}))
    assert (state.read(mine).state, state.read(other).state) == ("queued", "done")


@pytest.mark.slow
def test_there_are_never_more_workers_than_devices(new_run, supervise):
    runs = [new_run() for _ in range(4)]
    boss = supervise(devices=("cpu", "cpu"), environment={"FAKE_STEPS": 10})
    most = 0

    def looks() -> bool:
        nonlocal most
        most = max(most, sum(state.read(run).state == "running" for run in runs))
        return False

    work(boss, looks)
    assert most <= 2 and all(state.read(run).state == "done" for run in runs)


@pytest.mark.parametrize("how", ["kill", pytest.param("crash", marks=pytest.mark.slow)])
def test_a_run_that_always_crashes_is_given_up_with_the_reason(new_run, supervise, how):
    folder = new_run()
    work(supervise(environment={"FAKE_END": how}))
    job = state.read(folder)
    assert job.state == "failed" and len(trace(folder)) == retry.MAX_CRASHES
    assert ("SIGKILL" if how == "kill" else "exit status 1") in job.reason
    if how == "crash":
        assert "broken" in (folder.root / "worker.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("code", "attempts"), [(2, 1), (3, 1), (4, 2), (5, 1)])
def test_only_a_lack_of_memory_is_tried_again_once(new_run, supervise, code, attempts):
    folder = new_run()
    work(supervise(environment={"FAKE_END": code}))
    assert len(trace(folder)) == attempts
    assert (state.read(folder).state, state.read(folder).code) == ("failed", code)


def test_a_worker_that_never_begins_is_not_started_for_ever(new_run, supervise):
    folder = new_run()
    boss = supervise()
    boss.command = [boss.command[0], "-c", "raise SystemExit(3)"]
    work(boss)
    assert state.read(folder).state == "failed" and "exit status 3" in state.read(folder).reason


def test_an_orphan_is_taken_over_at_start_and_goes_on_from_its_checkpoint(new_run, supervise):
    folder = new_run()
    boss = supervise(environment=LONG)
    work(boss, lambda: len(trace(folder)) > 10)
    boss.kill()
    assert state.read_record(folder).state == "queued"
    with state.held(folder):  # as a machine leaves it that was switched off
        state.begin(folder, "cpu", is_queued=True)
    assert state.read(folder).state == "failed"
    at = int((folder.checkpoints / "last.safetensors").read_text())
    before = len(trace(folder))
    work(supervise(environment={"FAKE_STEPS": at + 3}))
    assert state.read(folder).state == "done"
    assert [step for _, step in trace(folder)[before:]] == [at + 1, at + 2, at + 3]


def test_a_request_that_the_worker_did_not_live_to_answer_is_answered(new_run, supervise):
    folder = new_run()
    with state.held(folder):
        state.begin(folder, "cpu", is_queued=True)
    write_request(folder, "cancel")
    work(supervise())
    assert state.read(folder).state == "cancelled" and not trace(folder)
    assert not folder.control.exists()


@pytest.mark.parametrize(
    ("wish", "end"),
    [
        ("stop", "stopped"),
        pytest.param("pause", "paused", marks=pytest.mark.slow),
        pytest.param("cancel", "cancelled", marks=pytest.mark.slow),
    ],
)
def test_a_running_job_ends_as_it_was_asked_to_and_can_go_on(new_run, supervise, wish, end):
    folder = new_run()
    boss = supervise(environment=LONG)
    work(boss, lambda: len(trace(folder)) > 2)
    actions.request(folder, wish)
    work(boss)
    assert state.read(folder).state == end and not folder.control.exists()
    made = len(trace(folder))
    actions.resume(folder)
    work(supervise(environment={"FAKE_STEPS": made + 2}))
    assert state.read(folder).state == "done"
    assert [step for _, step in trace(folder)] == list(range(1, made + 3))


def test_shutting_down_loses_no_step_and_counts_no_crash(new_run, supervise):
    folder = new_run()
    boss, stop = supervise(environment=LONG), StopFlag()
    runner = threading.Thread(target=boss.run, args=(stop,))
    runner.start()
    deadline = time.monotonic() + LIMIT
    while len(trace(folder)) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    runner.join(timeout=LIMIT)
    job = state.read(folder)
    assert (job.state, job.crashes, job.is_queued) == ("queued", 0, True)
    made = len(trace(folder))
    assert int((folder.checkpoints / "last.safetensors").read_text()) == made >= 6


def test_a_worker_whose_supervisor_is_gone_hands_its_run_back(new_run, supervise):
    folder = new_run()
    boss = supervise(environment=LONG)
    work(boss, lambda: len(trace(folder)) > 2)
    (worker,) = boss._workers
    worker.process.stdin.close()  # as the kernel does when a supervisor is killed
    assert worker.process.wait(LIMIT) == 130
    assert (state.read(folder).state, state.read(folder).crashes) == ("queued", 0)


def test_a_second_supervisor_leaves_a_device_alone_that_is_in_use(new_run, supervise):
    first, second = new_run(), new_run()
    one, two = supervise(environment=LONG), supervise()
    work(one, lambda: len(trace(first)) > 2)
    for _ in range(20):
        two.step()
        time.sleep(0.01)
    assert state.read(second).state == "queued" and not two._workers
    one._workers[0].process.send_signal(signal.SIGKILL)


def test_nothing_begins_while_the_quota_is_exceeded(new_run, supervise):
    folder = new_run()
    (folder.exports / "model.glb").write_bytes(bytes(10_000))
    said: list[str] = []
    boss = supervise(
        retention=Retention(quota_gb=1e-6),
        on_event=lambda event: said.append(event.values["message"]),
    )
    for _ in range(5):
        boss.step()
        time.sleep(0.02)
    assert boss.is_full and state.read(folder).state == "queued" and not boss._workers
    assert len(said) == 1 and "quota" in said[0]
    assert (folder.exports / "model.glb").exists()
