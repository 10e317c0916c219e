"""Kill -9 at random times, two supervisors on one folder: no run twice, no step lost for good.

Workers are forked as real ones are, so what they are forked from is killed too; or each has an
interpreter of its own, as on systems without forks.
"""

import os
import random
import signal
import subprocess
import sys
import time

import fake_supervisor
import psutil
import pytest
from traces import check_attempts

from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.jobs.queue.local import CAN_FORK

STEPS, EVERY = 50, 5
NUM_RUNS = 4
LIMIT = 300.0
FORK = "fork" if CAN_FORK else "own interpreters"
slow = pytest.mark.slow


def start(parent, how: str) -> subprocess.Popen:
    settings = {"FAKE_STEPS": STEPS, "FAKE_EVERY": EVERY, "FAKE_SECONDS": 0.01}
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    paths = [os.path.dirname(fake_supervisor.__file__), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, fake_supervisor.__file__, str(parent), how]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)


def end(supervisor: subprocess.Popen) -> int:
    """Ask a supervisor to end, once it listens, and return its exit code."""
    assert supervisor.stdout is not None
    with supervisor.stdout as output:
        output.readline()
        supervisor.terminate()
        return supervisor.wait(LIMIT)


def workers(runs: list[RunFolder]) -> list[int]:
    jobs = [state.read(run) for run in runs]
    return [job.pid for job in jobs if job.state == "running" and job.pid]


def fork_servers(supervisors: list[subprocess.Popen]) -> list[int]:
    children = [psutil.Process(boss.pid).children() for boss in supervisors]
    return [child.pid for some in children for child in some]


def is_over(runs: list[RunFolder]) -> bool:
    return all(state.read(run).state == "done" for run in runs)


@pytest.mark.parametrize(
    ("rounds", "how"),
    [
        (4, FORK),
        pytest.param(50, FORK, marks=slow),
        pytest.param(50, "own interpreters", marks=slow),
    ],
)
def test_whoever_is_killed_whenever_each_run_is_done_once(tmp_path, new_run, rounds, how):
    chance = random.Random(rounds)
    runs = [new_run(f"ball {i}") for i in range(max(2, NUM_RUNS * rounds // 10))]
    supervisors = [start(tmp_path / "runs", how) for _ in range(2)]
    try:
        for _ in range(rounds):
            time.sleep(chance.uniform(0.0, 0.6))
            victims = [*workers(runs), *(process.pid for process in supervisors)]
            victims += fork_servers(supervisors) if how == "fork" else []
            victim = chance.choice(victims)
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended by itself
            for i, process in enumerate(supervisors):
                if process.pid == victim:
                    process.wait()
                    process.stdout.close()
                    supervisors[i] = start(tmp_path / "runs", how)
        deadline = time.monotonic() + LIMIT
        while not is_over(runs):
            assert time.monotonic() < deadline, [state.read(run) for run in runs]
            time.sleep(0.1)
    finally:
        codes = [end(process) for process in supervisors]
    assert codes == [0, 0]
    for run in runs:
        check_attempts(run, STEPS, EVERY)
