"""Claims about who carries out a queue, and about starting somebody where nobody does."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from dreamlab.jobs.lock import BusyError
from dreamlab.jobs.queue import presence
from dreamlab.jobs.queue.presence import Keeper, is_present, present

WORK = """
    import signal, sys, threading
    from pathlib import Path
    from dreamlab.jobs.queue.presence import present
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with present(Path(sys.argv[2])):
        print("here", flush=True)
        ended.wait(60)
    print("ended", flush=True)
"""


@pytest.fixture
def command() -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(WORK)]


def wait_for(is_true, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_somebody_is_there_as_long_as_he_is(tmp_path):
    assert not is_present(tmp_path)
    with present(tmp_path), present(tmp_path):  # several may work on one folder
        assert is_present(tmp_path)
    assert not is_present(tmp_path)


def test_what_goes_wrong_inside_is_not_swallowed(tmp_path):
    with pytest.raises(BusyError, match="inside"), present(tmp_path):
        raise BusyError("inside", "")


def test_a_supervisor_is_started_if_there_is_none_and_ended_in_good_order(tmp_path, command):
    keeper = Keeper(tmp_path, command=command)
    keeper.start()
    wait_for(lambda: is_present(tmp_path))
    other = Keeper(tmp_path, command=command)
    other.look()
    assert other.process is None  # there is one
    other.end()
    keeper.end()
    assert keeper.process.returncode == 0 and not is_present(tmp_path)
    assert (tmp_path / presence.LOG).read_text() == "here\nended\n"


def test_a_supervisor_that_dies_is_replaced_after_a_pause(tmp_path, command, monkeypatch):
    monkeypatch.setattr(presence, "PAUSE_SECONDS", 0.3)
    keeper = Keeper(tmp_path, command=command)
    keeper.look()
    first = keeper.process
    wait_for(lambda: is_present(tmp_path))
    first.kill()
    first.wait()
    keeper.look()
    assert keeper.process is None  # not at once
    wait_for(lambda: keeper.look() or keeper.process is not None)
    assert keeper.process.pid != first.pid
    wait_for(lambda: is_present(tmp_path))
    keeper.end()


def test_a_supervisor_outlives_a_server_that_is_killed(tmp_path, command):
    server = (
        "import sys, time; from pathlib import Path\n"
        "from dreamlab.jobs.queue.presence import Keeper\n"
        f"Keeper(Path(sys.argv[1]), command={command!r}).look(); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", server, str(tmp_path)])
    wait_for(lambda: is_present(tmp_path))
    process.kill()
    process.wait()
    assert is_present(tmp_path)
    (found,) = [
        int(item.name)
        for item in Path("/proc").iterdir()
        if item.name.isdigit() and str(tmp_path).encode() in _command(item)
    ]
    subprocess.run(["kill", str(found)], check=True)
    wait_for(lambda: not is_present(tmp_path))


def _command(item) -> bytes:
    try:
        return (item / "cmdline").read_bytes()
    except OSError:
        return b""
