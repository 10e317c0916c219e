"""How quickly the server answers many who look at many runs: `dreamlab bench api`.

A real server, a process of its own, shows runs of which some are at work: their events grow while
they are looked at. Clients poll in turns of `PERIOD` seconds, as the page does: each picks a run
and asks for its record; every tenth request is for the list. What counts is the 95th percentile of
the time from a request to its whole answer. The server's CPU time a request says the same of a
machine that has other things to do.

Clients here are tasks of one process over plain sockets, so they cost little beside the server.
"""

import asyncio
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import psutil

from dreamlab.core.errors import MissingError
from dreamlab.core.run_folder import RunFolder, write_text
from dreamlab.jobs import state
from dreamlab.jobs.state import Job
from dreamlab.web.service import API

PERIOD = 1.0
"""Seconds between two requests of a client."""
LIST_SHARE = 0.1
"""Of requests that ask for the list."""
AT_WORK = 4
"""Runs that are at work."""
EVENT_SECONDS = 0.25
STAGES = {"gaussians": 450, "mesh": 300}
GOAL_MS = 200.0
START_SECONDS = 60.0
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
SERVER = """
import sys
from pathlib import Path
from dreamlab.jobs.queue.desk import Desk
from dreamlab.web.security import Access
from dreamlab.web.server import ServerSettings, bind, build_app, serve
from dreamlab.web.service import Service

class NoDesk(Desk):
    def start(self): pass

runs = Path(sys.argv[1])
settings = ServerSettings(Access(), port=int(sys.argv[2]))
serve(build_app(Service(runs, desk=NoDesk(runs)), settings), bind(settings))
"""


@dataclass
class Load:
    """What was measured."""

    clients: int
    runs: int
    seconds: float
    record_ms: list[float] = field(default_factory=list)
    """Of each request for a record."""
    list_ms: list[float] = field(default_factory=list)
    """Of each request for the list."""
    failures: int = 0
    """Requests that were not answered with 200."""
    cpu_seconds: float = 0.0
    """That the server has spent."""

    @property
    def p95(self) -> float:
        """95th percentile over all requests, ms."""
        return percentile(self.record_ms + self.list_ms)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return (len(self.record_ms) + len(self.list_ms)) / self.seconds

    def summary(self) -> dict[str, float]:
        """Return the figures, times in ms."""
        return {
            "clients": self.clients,
            "runs": self.runs,
            "requests_per_second": round(self.rate, 1),
            "record_median": round(median(self.record_ms), 1),
            "record_p95": round(percentile(self.record_ms), 1),
            "list_median": round(median(self.list_ms), 1),
            "list_p95": round(percentile(self.list_ms), 1),
            "p95": round(self.p95, 1),
            "server_cpu_per_request": round(
                self.cpu_seconds * 1e3 / len(self.record_ms + self.list_ms), 2
            ),
            "failures": self.failures,
        }


def percentile(values: list[float]) -> float:
    """Return the 95th percentile."""
    return quantiles(values, n=20)[-1]


def measure(folder: Path, *, clients: int = 200, runs: int = 50, seconds: float = 15.0) -> Load:
    """Measure in an empty folder.

    Raises:
        MissingError: the server does not start.
    """
    made = [make_run(folder, number) for number in range(runs)]
    with serving(folder) as (port, server):
        before = server.cpu_times()
        load = asyncio.run(_poll(port, made, clients, seconds))
        after = server.cpu_times()
    load.cpu_seconds = after.user + after.system - before.user - before.system
    return load


def make_run(folder: Path, number: int) -> RunFolder:
    """Make a run with settings and events as long as a draft's; it is done."""
    run = RunFolder.create(folder, f"a red mushroom {number}", number)
    stages = {name: {"steps": steps} for name, steps in STAGES.items()}
    write_text(run.config, json.dumps({"prompt": "a red mushroom", "stages": stages}))
    metrics = dict.fromkeys("abcdefgh", 0.5)
    step = json.dumps({"kind": "step", "stage": "mesh", "step": 1, "metrics": metrics})
    write_text(run.events, f"{step}\n" * 400)
    state.create(run, Job(state="done", prompt=f"a red mushroom {number}", seed=number))
    return run


@contextmanager
def serving(folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Serve a folder from a process of its own, without its desk; yields port and process.

    Raises:
        MissingError: it does not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder), str(port)])
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise MissingError("the server does not start.", "try `dreamlab serve`.")
            time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


async def _poll(port: int, runs: list[RunFolder], clients: int, seconds: float) -> Load:
    load, end = Load(clients, len(runs), seconds), time.monotonic() + seconds
    workers = [asyncio.create_task(_work(run, end)) for run in runs[:AT_WORK]]
    names = [run.root.name for run in runs]
    polling = [_client(port, names, load, end, seed) for seed in range(clients)]
    await asyncio.gather(*polling, *workers)
    return load


async def _client(port: int, names: list[str], load: Load, end: float, seed: int) -> None:
    """Ask again and again over one connection, as a browser does."""
    chance = random.Random(seed)
    await asyncio.sleep(PERIOD * chance.random())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < end:
        is_list = chance.random() < LIST_SHARE
        path = "/jobs?limit=20" if is_list else f"/jobs/{chance.choice(names)}"
        begin = time.perf_counter()
        writer.write(f"GET {API}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(LENGTH.findall(head)[0]))
        took = (time.perf_counter() - begin) * 1e3
        (load.list_ms if is_list else load.record_ms).append(took)
        load.failures += b" 200 " not in head.split(b"\r\n", 1)[0]
        await asyncio.sleep(max(0.0, PERIOD - took / 1e3))
    writer.close()
    await writer.wait_closed()


async def _work(run: RunFolder, end: float) -> None:
    """Do what a run at work does to its folder."""
    with state.held(run):
        state.begin(run, "cpu", is_queued=True)
        state.enter_phase(run, "mesh")
        step = 0
        while time.monotonic() < end:
            step += 1
            run.append_event("step", stage="mesh", step=step, steps=300, metrics={}, eta=10.0)
            await asyncio.sleep(EVENT_SECONDS)
        state.finish(run, "done")
