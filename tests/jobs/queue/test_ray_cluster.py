"""Claims about batches on a real Ray cluster of two nodes on this machine, with counting workers.

Each node gives its workers another name of the machine, so that they judge each other's locks
by age, as on machines of which one does not see the locks of the other.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import fake_worker
import pytest
from traces import check_attempts
from typer.testing import CliRunner

from dreamlab.cli.main import app
from dreamlab.core.errors import ExitCode, InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.core.version import VERSION
from dreamlab.jobs import lock, retry, state
from dreamlab.jobs.batch import run as batch_run
from dreamlab.jobs.batch.plan import make_plan
from dreamlab.jobs.batch.results import exit_code
from dreamlab.jobs.batch.rows import make_row
from dreamlab.jobs.queue import supervisor
from dreamlab.jobs.queue.ray_cluster import Share, connected, look_at
from dreamlab.training.stop import StopFlag

pytest.importorskip("ray", reason='needs Ray: pip install -e ".[cluster]"')
pytestmark = pytest.mark.slow

FAKE_WORKER = (sys.executable, fake_worker.__file__)
STEPS, EVERY = 60, 5
STALE_SECONDS = 3.0
STORE_BYTES = 100 * 1024**2
LIMIT = 120.0
ON_CPU = Share(cpus=1.0, gpus=0.0)


class TwoNodes:
    """A cluster; the second node has a graphics card, by its own account."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster()
        self.first = self.add("first", include_dashboard=False)
        self.second: Any = None

    @property
    def address(self) -> str:
        return self.cluster.address

    def add(self, name: str, **options: Any) -> Any:
        os.environ["FAKE_HOST"] = name  # its processes inherit it
        node = self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, **options)
        del os.environ["FAKE_HOST"]
        return node

    def complete(self) -> None:
        if self.second is None:
            self.second = self.add("second", num_gpus=1)
            self.cluster.wait_for_nodes()

    def lose_second(self) -> None:
        """Kill Ray's processes on the second node."""
        node, self.second = self.second, None
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_STEPS", str(STEPS))
        patch.setenv("FAKE_EVERY", str(EVERY))
        patch.setenv("FAKE_SECONDS", "0.05")
        patch.setenv("FAKE_STALE", str(STALE_SECONDS))
        patch.setenv("RAY_ENABLE_METRICS_COLLECTION", "0")
        two = TwoNodes()
        yield two
        two.cluster.shutdown()


@pytest.fixture(autouse=True)
def two_nodes(nodes, monkeypatch) -> None:
    nodes.complete()
    monkeypatch.setattr(lock, "STALE_SECONDS", STALE_SECONDS)
    monkeypatch.setattr(retry, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(state, "host", lambda: "driver")


def run(address: str, folder: Path, *, rows: int, stop: StopFlag | None = None) -> list[dict]:
    plan = make_plan([make_row({"prompt": f"ball {i}"}, f"line {i}") for i in range(rows)])
    with connected(address, ON_CPU) as cluster:
        batch_run.make_folder(folder)
        cluster.check(folder)
        done = batch_run.carry_out(
            plan,
            folder,
            cluster.slots(None),
            title="balls",
            stop=stop or StopFlag(),
            command=FAKE_WORKER,
            start=cluster.start,
        )
    return done.gather()


class When(threading.Thread):
    """Does something, once, when a row is in the middle on a node."""

    def __init__(self, folder: Path, host: str, act: Callable[[RunFolder, state.Job], None]):
        super().__init__()
        self.folder, self.host, self.act = folder, host, act
        self.run_folder: RunFolder | None = None
        self.start()

    def run(self) -> None:
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            for path in self.folder.glob("*/checkpoints/last.safetensors"):
                found = RunFolder(path.parent.parent)
                job = state.read_record(found)
                if (job.state, job.host) == ("running", self.host):
                    self.run_folder = found
                    self.act(found, job)
                    return
            time.sleep(0.02)

    def victim(self) -> RunFolder:
        self.join()
        assert self.run_folder is not None
        return self.run_folder


def attempts(folder: Path) -> dict[str, list[list[int]]]:
    runs = [RunFolder(path.parent) for path in folder.glob("*/job.json")]
    return {one.root.name: check_attempts(one, STEPS, EVERY) for one in runs}


@pytest.mark.parametrize("how", ["without power", "cut off"])
def test_rows_of_a_node_that_is_lost_are_done_by_another_and_none_twice(nodes, tmp_path, how):
    lost: list[float] = []

    def lose(found: RunFolder, job: state.Job) -> None:
        assert job.pid is not None
        if how == "without power":
            os.kill(job.pid, signal.SIGKILL)
        lost.append(time.time())
        nodes.lose_second()

    when = When(tmp_path, "second", lose)
    results = run(nodes.address, tmp_path, rows=4)
    victim = when.victim()
    assert [result["state"] for result in results] == ["done"] * 4
    made = attempts(tmp_path)
    assert len(made) == 4
    again = {name: len(tries) for name, tries in made.items() if len(tries) > 1}
    assert again == {victim.root.name: 2}, "rows that were not lost are done at one go"
    job = state.read_record(victim)
    assert (job.host, job.crashes) == ("first", 1)
    assert job.started is not None and job.started - lost[0] > STALE_SECONDS * 0.8


def test_a_batch_that_is_stopped_hands_its_rows_back_and_goes_on(nodes, tmp_path):
    stop = StopFlag()
    when = When(tmp_path, "second", lambda found, job: stop.set())
    results = run(nodes.address, tmp_path, rows=3, stop=stop)
    assert state.read_record(when.victim()).state == "queued"
    assert exit_code(results) == ExitCode.STOPPED
    assert exit_code(run(nodes.address, tmp_path, rows=3)) == ExitCode.DONE
    made = attempts(tmp_path)
    assert len(made) == 3 and max(map(len, made.values())) == 2
    for tries in made.values():
        assert [*chain(*tries)] == list(range(1, STEPS + 1)), "no step twice, none left out"


def test_the_command_uses_graphics_cards_where_there_are_any(nodes, tmp_path, monkeypatch):
    carry_out = batch_run.carry_out
    with_fake = lambda *given, **options: carry_out(*given, **options, command=FAKE_WORKER)  # noqa: E731
    monkeypatch.setattr(batch_run, "carry_out", with_fake)
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)
    Path("balls.txt").write_text("a ball\na cube\n")
    words = ["batch", "balls.txt", "--quality", "draft", "-o", "balls", "--ray", nodes.address]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    jobs = [state.read_record(RunFolder(path.parent)) for path in Path("balls").glob("*/job.json")]
    assert [(job.state, job.device, job.host) for job in jobs] == [("done", "cuda", "second")] * 2
    assert Path("balls/index.html").is_file()


def test_what_does_not_fit_is_refused_with_what_there_is(nodes, tmp_path):
    with pytest.raises(InputError, match=r"8 CPUs and 0 GPUs.*1 and 0.*1 and 1"):
        with connected(nodes.address, Share(8.0, 0.0)):
            pass
    with connected(nodes.address, Share(0.5, 0.0)) as cluster:
        assert cluster.slots(None) == ["cpu"] * 4 and cluster.slots(7) == ["cpu"] * 7
    with connected(nodes.address, Share(0.0, 0.25)) as cluster:
        assert cluster.slots(None) == ["cuda"] * 4
    with pytest.raises(InputError, match="no Ray cluster"):
        with connected("127.0.0.1:1", ON_CPU):
            pass
    with pytest.raises(InputError, match="not the address"):
        with connected("ray://127.0.0.1:10001", ON_CPU):
            pass


def test_a_folder_that_a_node_does_not_see_is_refused(nodes, tmp_path):
    import ray

    assert look_at(str(tmp_path / "none")) == (VERSION, False)
    with connected(nodes.address, ON_CPU) as cluster:
        cluster.check(tmp_path)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(InputError, match="node b does not see"):
            cluster._check_node("b", ray.put((VERSION, False)), tmp_path)
        with pytest.raises(InputError, match=r"node b has dreamlab 0\.0"):
            cluster._check_node("b", ray.put(("0.0", True)), tmp_path)
