"""How quickly the server answers many who look at many runs, and what that takes from a training.

`dreamlab bench api`: a real server, a process of its own, shows runs of which some are at work:
their events grow while they are looked at. Clients poll in turns of `PERIOD` seconds: each picks
a run and asks for its record; every tenth request is for the list. What counts is the 95th
percentile of the time from a request to its whole answer.

With `--training` a run trains on the same machine: for a window of time alone, for one while the
clients poll, and for one alone again. With r_1, r_2, r_3 steps a second it is slowed by

    1 − r_2 / ((r_1 + r_3) / 2)

All clients are in this process, which works on the same processors as the server and the training;
browsers on other machines would not. So the CPU time of each is told: that of the server is what
a user pays for being looked at, that of the clients is paid for measuring.
"""

import asyncio
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeVar

import psutil

from dreamlab.core.errors import MissingError
from dreamlab.core.run_folder import RunFolder, write_text
from dreamlab.jobs import state
from dreamlab.jobs.state import Job
from dreamlab.web.service import API

T = TypeVar("T")
PERIOD = 1.0
"""Seconds between two requests of a client."""
LIST_SHARE = 0.1
"""Of requests that ask for the list."""
WARM_SECONDS = 2.0
"""That clients poll before anything is counted: a server does some things only once."""
AT_WORK = 4
"""Runs that are at work."""
EVENT_SECONDS = 0.25
STAGES = {"gaussians": 450, "mesh": 300}
GOAL_MS = 200.0
GOAL_SLOWING = 0.1
TRAINING = (
    *(sys.executable, "-m", "dreamlab", "generate", "a red mushroom", "--quiet"),
    *("stages.gaussians.steps=1000000", "stages.gaussians.milestones=[{until: 1.0, size: 64}]"),
)
"""A run that does not leave its first stage, nor change the size of its renders."""
TRAINING_SECONDS = 300.0
"""In which it must have begun."""
WARM_STEPS = 30
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


@dataclass(frozen=True, slots=True)
class Training:
    """A run that trained on the same machine."""

    before: float
    """Steps a second before anybody looked at it."""
    beside: float
    """While the clients polled."""
    after: float
    cores_alone: float
    """CPU seconds a second, before."""
    cores_beside: float

    @property
    def slowing(self) -> float:
        """Share of its speed that it lost."""
        return 1.0 - 2.0 * self.beside / (self.before + self.after)


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
    """Requests that were not answered, or not with 200."""
    server_seconds: float = 0.0
    """CPU time of the server while the clients polled."""
    client_seconds: float = 0.0
    """That of all clients together."""
    training: Training | None = None

    @property
    def p95(self) -> float:
        """95th percentile over all requests, ms."""
        return percentile(self.record_ms + self.list_ms)

    @property
    def requests(self) -> int:
        """How many there were."""
        return len(self.record_ms) + len(self.list_ms)

    def summary(self) -> dict[str, int | float]:
        """Return the figures: times in ms, CPU time of processes in cores."""
        figures = {
            "clients": self.clients,
            "runs": self.runs,
            "requests_per_second": round(self.requests / self.seconds, 1),
            "record_median": round(median(self.record_ms), 1),
            "record_p95": round(percentile(self.record_ms), 1),
            "list_median": round(median(self.list_ms), 1),
            "list_p95": round(percentile(self.list_ms), 1),
            "p95": round(self.p95, 1),
            "server_cpu_per_request": round(self.server_seconds * 1e3 / self.requests, 3),
            "client_cpu_per_request": round(self.client_seconds * 1e3 / self.requests, 3),
            "server_cores": round(self.server_seconds / self.seconds, 3),
            "client_cores": round(self.client_seconds / self.seconds, 3),
            "failures": self.failures,
        }
        if self.training is not None:
            figures |= {name: round(value, 3) for name, value in asdict(self.training).items()}
            figures["slowing"] = round(self.training.slowing, 3)
        return figures


def percentile(values: list[float]) -> float:
    """Return the 95th percentile."""
    return quantiles(values, n=20)[-1]


def measure(
    folder: Path,
    *,
    clients: int = 200,
    runs: int = 50,
    seconds: float = 15.0,
    training: bool = False,
) -> Load:
    """Measure in an empty folder.

    Args:
        folder: of the runs.
        clients: each polls once a `PERIOD`.
        runs: that they look at.
        seconds: that they poll.
        training: let a run train meanwhile.

    Raises:
        MissingError: the server, or the training, does not start.
    """
    made = [make_run(folder, number) for number in range(runs)]
    with serving(folder) as (port, server):
        if not training:
            return _load(port, server, made, clients, seconds)
        with at_training(folder) as trainee:
            made.append(trainee.run)
            before, cores_alone, _ = trainee.watch(time.sleep, seconds)
            beside, cores_beside, load = trainee.watch(_load, port, server, made, clients, seconds)
            after, _, _ = trainee.watch(time.sleep, seconds)
    load.training = Training(before, beside, after, cores_alone, cores_beside)
    return load


def _load(
    port: int, server: psutil.Process, runs: list[RunFolder], clients: int, seconds: float
) -> Load:
    asyncio.run(_poll(port, runs, Load(clients, len(runs), WARM_SECONDS)))
    load = Load(clients, len(runs), seconds)
    server_before, own_before = cpu_seconds(server), time.process_time()
    asyncio.run(_poll(port, runs, load))
    load.server_seconds = cpu_seconds(server) - server_before
    load.client_seconds = time.process_time() - own_before
    return load


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time that a process has taken."""
    times = process.cpu_times()
    return times.user + times.system


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


class Trainee:
    """A run that trains in a process of its own."""

    def __init__(self, run: RunFolder, process: psutil.Process) -> None:
        self.run, self.process = run, process

    def watch(self, act: Callable[..., T], *values: Any) -> tuple[float, float, T]:
        """Return its steps a second and the cores it uses while `act` runs, and what that gives."""
        begin, cpu = time.time(), cpu_seconds(self.process)
        result = act(*values)
        end = time.time()
        cores = (cpu_seconds(self.process) - cpu) / (end - begin)
        steps = [e for e in self.run.read_events() if e["kind"] == "step" and e["time"] >= begin]
        if len(steps) < 2:
            raise MissingError("the training makes no steps.", "poll for longer, --seconds 60.")
        first, last = steps[0], steps[-1]
        return (last["step"] - first["step"]) / (last["time"] - first["time"]), cores, result


@contextmanager
def at_training(folder: Path) -> Iterator[Trainee]:
    """Let a run train in a folder of runs until the end; yields it when it has warmed up.

    Raises:
        MissingError: it does not begin.
    """
    earlier = {path.name for path in folder.iterdir()}
    command = [*TRAINING, "--output", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + TRAINING_SECONDS
        while True:
            new = [path.parent for path in folder.glob("*/events.jsonl")]
            runs = [RunFolder(root) for root in new if root.name not in earlier]
            if runs and any(e.get("step", 0) >= WARM_STEPS for e in runs[0].read_events()):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise MissingError(
                    "the training does not begin.", f"try `{' '.join(TRAINING[1:])}`."
                )
            time.sleep(1.0)
        yield Trainee(runs[0], psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait()


async def _poll(port: int, runs: list[RunFolder], load: Load) -> None:
    end, names = time.monotonic() + load.seconds, [run.root.name for run in runs]
    workers = [asyncio.create_task(_work(run, end)) for run in runs[:AT_WORK]]
    loop = asyncio.get_running_loop()
    polling: list[_Client] = []
    for seed in range(load.clients):
        make = partial(_Client, names, load, end, random.Random(seed))
        polling.append((await loop.create_connection(make, "127.0.0.1", port))[1])
    await asyncio.gather(*(client.closed for client in polling), *workers)


class _Client(asyncio.Protocol):
    """Asks again and again over one connection, as a browser does."""

    def __init__(self, names: list[str], load: Load, end: float, chance: random.Random) -> None:
        self.names, self.load, self.end, self.chance = names, load, end, chance
        self.loop = asyncio.get_running_loop()
        self.closed = self.loop.create_future()
        self.transport: asyncio.Transport | None = None
        self.is_list, self.is_waiting, self.begun, self.content = False, False, 0.0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.loop.call_later(PERIOD * self.chance.random(), self.ask)

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.failures += self.is_waiting
        if not self.closed.done():
            self.closed.set_result(None)

    def ask(self) -> None:
        """Send a request, or hang up when the time is over."""
        assert self.transport is not None
        if time.monotonic() >= self.end or self.transport.is_closing():
            self.transport.close()
            return
        self.is_list = self.chance.random() < LIST_SHARE
        path = "/jobs?limit=20" if self.is_list else f"/jobs/{self.chance.choice(self.names)}"
        self.is_waiting, self.content, self.begun = True, b"", time.perf_counter()
        self.transport.write(f"GET {API}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self.content += data
        head, blank, body = self.content.partition(b"\r\n\r\n")
        if blank and len(body) >= int(LENGTH.findall(head)[0]):
            self.is_waiting, took = False, time.perf_counter() - self.begun
            (self.load.list_ms if self.is_list else self.load.record_ms).append(took * 1e3)
            self.load.failures += b" 200 " not in head.split(b"\r\n", 1)[0]
            self.loop.call_later(max(0.0, PERIOD - took), self.ask)


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
