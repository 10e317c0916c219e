"""Claims about the runs that are followed, against a server on a real socket."""

import threading
import time

import pytest
from api_double import ApiDouble
from dreamlab_extension import session as session_module
from dreamlab_extension.client import ServerError
from dreamlab_extension.session import Session
from dreamlab_extension.worker import Worker

FIELDS = {"prompt": "a red mushroom", "recipe": "toybox", "seed": 3}


@pytest.fixture
def server():
    with ApiDouble(b"glTF model", b"a picture") as double:
        yield double


@pytest.fixture
def session(server, monkeypatch):
    monkeypatch.setattr(session_module, "POLL_SECONDS", 0.01)
    own = Session()
    own.use(server.address, "")
    yield own
    own.close()


def step_until(session: Session, is_so) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline, (session.problem, session.followed)
        session.step(time.monotonic())
        time.sleep(0.002)


def test_a_connection_tells_what_the_server_offers(session, server):
    server._submit(FIELDS)
    session.connect()
    assert session.busy
    step_until(session, lambda: not session.busy)
    assert session.health["version"] == "1" and session.problem is None
    assert [recipe["name"] for recipe in session.recipes] == ["toybox", "toybox-texture"]
    assert [run["name"] for run in session.runs] == ["run-0"]


def test_a_run_is_followed_until_its_model_is_here(session):
    states = []
    session.submit(FIELDS)
    step_until(session, lambda: session.followed)
    run = session.followed["run-0"]
    step_until(session, lambda: states.append(run.state) or run.model)
    assert run.model.read_bytes() == b"glTF model" and run.picture.read_bytes() == b"a picture"
    assert list(dict.fromkeys(states)) == ["queued", "running", "done"]
    assert session.runs[0]["state"] == "done"
    session.let_go("run-0")
    assert not run.model.exists() and not run.picture.exists()


def test_pictures_are_fetched_once(session, server):
    session.submit(FIELDS)
    step_until(session, lambda: session.followed and session.followed["run-0"].model)
    assert sum("previews" in path for _, path in server.asked) == 1


def test_a_stopped_run_has_a_model_and_a_cancelled_one_has_none(session, server):
    server.course = [("running", 0.1)] * 1000
    for _ in range(2):
        session.submit(FIELDS)
    step_until(session, lambda: len(session.followed) == 2)
    kept = session.followed["run-0"]
    session.act("run-0", "stop")
    session.act("run-1", "cancel")
    step_until(session, lambda: kept.model and "run-1" not in session.followed)
    assert session.problem is None


def test_why_a_run_failed_is_told_with_its_fix(session, server):
    server.course, server.reason, server.fix = [("failed", 0.5)], "out of memory.", "Use draft."
    told = []
    session.on_problem = told.append
    session.submit(FIELDS)
    step_until(session, lambda: session.problem)
    assert "out of memory" in session.problem.message and session.problem.fix == "Use draft."
    assert told == [session.problem] and not session.followed


def test_a_server_that_falls_silent_is_asked_again_with_growing_pauses(session, server):
    session.submit(FIELDS)
    step_until(session, lambda: session.followed)
    server.broken = 3
    run = session.followed["run-0"]
    step_until(session, lambda: run.failures == 3)
    assert run.trouble == "The server is busy." and session.problem is None
    assert run.due - session.now >= 0.01 * 2**3 - 0.02
    step_until(session, lambda: run.model)
    assert run.trouble == "" and run.failures == 0


def test_a_run_that_is_gone_is_let_go(session, server):
    session.submit(FIELDS)
    step_until(session, lambda: session.followed)
    server.jobs.clear()
    step_until(session, lambda: session.problem)
    assert session.problem.message == "There is no run run-0." and not session.followed


def test_a_refused_submission_settles_with_nothing(session, tmp_path):
    model, settled = tmp_path / "selection.glb", []
    model.write_bytes(b"glTF")
    session.submit({**FIELDS, "recipe": "none"}, model=model, settled=settled.append)
    step_until(session, lambda: session.problem)
    assert settled == [None] and not model.exists() and "none" in session.problem.message


def test_a_model_is_sent_before_the_run_that_starts_from_it(session, server):
    model, settled = session.new_file("selection.glb"), []
    model.write_bytes(b"glTF cube")
    session.submit(FIELDS, model=model, ticket="t", settled=settled.append)
    step_until(session, lambda: settled)
    assert server.models == [b"glTF cube"] and server.jobs["run-0"]["model"] == "model-1"
    assert settled == ["run-0"] and session.followed["run-0"].ticket == "t"


def test_another_server_makes_the_session_forget(session):
    session.connect()
    session.submit(FIELDS)
    step_until(session, lambda: session.followed and session.health)
    with ApiDouble() as other:
        session.use(other.address, "")
        assert not session.followed and session.health is None and not session.runs


def test_an_answer_of_the_old_server_is_not_taken_for_one_of_the_new(session):
    session.connect()
    with ApiDouble() as other:
        session.use(other.address, "")
        session.submit(FIELDS)
        step_until(session, lambda: session.followed)
        assert session.health is None


def test_closing_leaves_neither_thread_nor_files(server):
    session = Session()
    session.use(server.address, "")
    session.connect()
    file = session.new_file("x.glb")
    assert any(thread.name == "dreamlab" for thread in threading.enumerate())
    session.close()
    assert not any(thread.name == "dreamlab" for thread in threading.enumerate())
    assert not file.parent.parent.exists()
    session.use(server.address, "")
    session.connect()
    step_until(session, lambda: session.health)
    session.close()


def test_a_bug_in_a_question_becomes_a_problem_and_the_thread_goes_on(capsys):
    worker, got = Worker(), []
    worker.ask(lambda: 1 / 0, got.append, got.append)
    worker.ask(lambda: threading.current_thread().name, got.append, got.append)
    deadline = time.monotonic() + 10
    while len(got) < 2 and time.monotonic() < deadline:
        worker.deliver()
    worker.stop()
    bug, name = got
    assert isinstance(bug, ServerError) and "ZeroDivisionError" in bug.message
    assert name == "dreamlab" and "ZeroDivisionError" in capsys.readouterr().err
