"""Claims about processes that are forked from one that has imported what they need."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import forked_example
import psutil
import pytest

from dreamlab.jobs.queue import fork_server
from dreamlab.jobs.queue.fork_server import LOST, ForkServer, server_of
from dreamlab.jobs.queue.local import CAN_FORK

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="workers are forked on Linux alone")
LIMIT = 30.0
SUPPORT = str(Path(forked_example.__file__).parent)
ASK = """
import os, sys, time
from dreamlab.jobs.queue.fork_server import server_of
with open(sys.argv[1], "w") as output:
    server_of("forked_example").fork(["wait"], output.fileno(), os.environ)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SUPPORT, prepend=os.pathsep)
        patch.setenv("EXAMPLE", "of the server")
        made = ForkServer("forked_example")
    yield made
    made.close()


@pytest.fixture
def fork(server, tmp_path):
    def start(*arguments: str, **environment: str):
        with open(tmp_path / "out.txt", "wb") as output:
            return server.fork(arguments, output.fileno(), {**os.environ, **environment})

    return start


def wait(process) -> int:
    ended = threading.Event()
    process.call_when_ended(ended.set)
    assert ended.wait(LIMIT)
    code = process.poll()
    assert code is not None
    return code


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_forked_process_has_what_came_with_the_request(fork, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert wait(fork("tell", "a", "b", EXAMPLE="of the request")) == 0
    monkeypatch.delenv("EXAMPLE", raising=False)
    out = (tmp_path / "out.txt").read_text()
    assert out == f"of the request of the server {tmp_path} tell a b\nTrue 1\n"
    assert wait(fork("tell")) == 0
    assert (tmp_path / "out.txt").read_text().startswith("None of the server"), "none if none came"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["exit", "7"], 7, ""),
        (["exit"], 1, "for a reason"),
        (["raise"], 1, "ValueError: as told"),
        (["die"], -signal.SIGKILL, ""),
    ],
)
def test_its_end_is_told_as_that_of_an_interpreter(fork, tmp_path, arguments, code, told):
    process = fork(*arguments)
    assert wait(process) == code
    assert told in (tmp_path / "out.txt").read_text()
    assert ("SIGKILL" if code < 0 else f"exit status {code}") in process.reason()


def test_it_can_be_told_to_end_and_killed(fork, tmp_path):
    for end, code in (("terminate", -signal.SIGTERM), ("kill", -signal.SIGKILL)):
        process = fork("wait")
        wait_for(tmp_path / "out.txt", "waits")
        assert process.poll() is None
        getattr(process, end)()
        assert wait(process) == code
        getattr(process, end)()  # it has ended, and its number is nobody's


def test_processes_whose_server_dies_lose_their_leash_and_count_as_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SUPPORT, prepend=os.pathsep)
    monkeypatch.setattr(fork_server, "_servers", {})
    first = server_of("forked_example")
    assert server_of("forked_example") is first
    with open(tmp_path / "out.txt", "wb") as output:
        process = first.fork(["wait"], output.fileno(), os.environ)
    wait_for(tmp_path / "out.txt", "waits")
    first._server.kill()
    assert wait(process) == LOST and "is gone" in process.reason()
    wait_for(tmp_path / "out.txt", "let go")
    process.terminate()  # nobody is there any more
    with pytest.raises(OSError):
        first.fork(["wait"], 1, os.environ)
    first.close()
    second = server_of("forked_example")
    assert second is not first and not second.is_lost
    second.close()


def test_when_whoever_asks_is_killed_its_processes_lose_their_leash(tmp_path):
    out = tmp_path / "out.txt"
    paths = os.pathsep.join(filter(None, [SUPPORT, os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": paths}
    asker = subprocess.Popen([sys.executable, "-c", ASK, str(out)], env=environment)
    wait_for(out, "waits")
    server, *_ = psutil.Process(asker.pid).children()
    asker.kill()
    asker.wait()
    wait_for(out, "let go")
    server.wait(LIMIT)


def test_workers_are_forked_from_a_process_of_one_thread_without_torch():
    code = (
        "import os, sys, dreamlab.jobs.queue.fork_server, dreamlab.jobs.queue.worker\n"
        "heavy = {'torch', 'numpy', 'warp', 'diffusers'} & set(sys.modules)\n"
        "assert not heavy and len(os.listdir('/proc/self/task')) == 1, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_request_that_would_arrive_in_part_is_refused_and_harms_no_other(fork):
    size = fork_server.MAX_BYTES
    with pytest.raises(OSError, match="too long"):
        fork("tell", "a" * size)
    with pytest.raises(OSError, match="too long"):
        fork("tell", "a" * (size + size // 4))  # the kernel would take this
    assert wait(fork("tell")) == 0


def test_a_server_that_has_died_leaves_no_process_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SUPPORT, prepend=os.pathsep)
    made = ForkServer("forked_example")
    made._server.kill()
    made._listener.join(LIMIT)
    assert made.is_lost and made._server.returncode == -signal.SIGKILL
    made.close()


def test_a_process_that_the_system_keeps_does_not_keep_others_from_being_killed(
    fork, server, monkeypatch
):
    monkeypatch.setattr(fork_server, "KILL_SECONDS", 0.1)
    process = fork("wait")
    server._server.send_signal(signal.SIGSTOP)  # nobody hears that it has ended
    try:
        process.kill()
        assert process.poll() is None
    finally:
        server._server.send_signal(signal.SIGCONT)
    assert wait(process) == -signal.SIGKILL
