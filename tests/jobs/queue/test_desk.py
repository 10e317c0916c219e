"""Claims about the process that checks wishes, and about what happens when it dies."""

import sys
import textwrap

import pytest

from dreamlab.core.errors import InputError, MissingError
from dreamlab.jobs.queue import desk
from dreamlab.jobs.queue.desk import Desk, DeskError
from dreamlab.jobs.queue.wish import Changes, Wish

CHILD = """
    import json, os, sys
    for line in sys.stdin:
        asked = json.loads(line)
        prompt = asked["wish"]["prompt"]
        if prompt == "die":
            os._exit(1)
        if prompt == "hang":
            import time; time.sleep(60)
        if prompt == "noise":
            print("no JSON", flush=True)
        if prompt in ("2", "3"):
            error = {"message": "m", "fix": "f", "code": int(prompt)}
            print(json.dumps({"error": error}), flush=True)
        elif prompt == "bug":
            print(json.dumps({"error": {"message": "m", "fix": "", "code": None}}), flush=True)
        else:
            print(json.dumps({"result": f"{os.getpid()} " + "x" * 300_000}), flush=True)
"""


@pytest.fixture
def small_desk(tmp_path):
    """A desk whose child answers without torch."""
    made = Desk(tmp_path, [sys.executable, "-c", textwrap.dedent(CHILD)])
    yield made
    made.close()


def pid(made: Desk) -> str:
    return made.submit(Wish("hello")).split()[0]


def test_one_child_answers_until_it_dies_and_then_another_one(small_desk):
    first = pid(small_desk)
    assert pid(small_desk) == first
    with pytest.raises(DeskError, match="died"):
        small_desk.submit(Wish("die"))
    second = pid(small_desk)
    assert second != first
    small_desk._process.kill()
    small_desk._process.wait()
    assert pid(small_desk) not in (first, second)


def test_answers_that_are_none_and_children_that_hang_are_given_up(small_desk, monkeypatch):
    for prompt in ("noise", "hang"):
        monkeypatch.setattr(desk, "SECONDS", 30.0 if prompt == "noise" else 0.2)
        monkeypatch.setattr(desk, "END_SECONDS", 0.2)
        with pytest.raises(DeskError, match="died"):
            small_desk.submit(Wish(prompt))
        monkeypatch.setattr(desk, "SECONDS", 30.0)
        assert pid(small_desk)


def test_errors_come_back_as_what_they_were(small_desk):
    for code, kind in ((2, InputError), (3, MissingError)):
        with pytest.raises(kind) as caught:
            small_desk.submit(Wish(str(code)))
        assert (caught.value.message, caught.value.fix, caught.value.code) == ("m", "f", code)
    with pytest.raises(DeskError, match="bug in dreamlab"):
        small_desk.submit(Wish("bug"))


def test_a_desk_that_is_closed_leaves_no_process(small_desk):
    pid(small_desk)
    process = small_desk._process
    small_desk.close()
    assert process.poll() is not None
    small_desk.close()


@pytest.mark.slow
def test_a_real_child_queues_runs_and_is_quick_after_the_first_answer(tmp_path):
    real = Desk(tmp_path)
    try:
        name = real.submit(Wish("a ball", settings={"export.max_faces": 500}))
        again = real.rerun(name, Changes(prompt="a cube"))
        assert (tmp_path / again / "config.yaml").read_text().count("a cube") == 1
        with pytest.raises(InputError, match=r"prior\.model"):
            real.rerun(name, Changes(settings={"prior.model": "mine"}))
        assert len(real.settings("toybox")) > 50
    finally:
        real.close()


def test_a_child_that_does_not_listen_is_given_up_however_long_the_question(tmp_path, monkeypatch):
    monkeypatch.setattr(desk, "SECONDS", 0.5)
    deaf = Desk(tmp_path, [sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(DeskError, match="died"):
        deaf.submit(Wish("x" * 500_000))
    assert deaf._process is None
    deaf.close()
