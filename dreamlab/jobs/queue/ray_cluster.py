"""Workers on the nodes of a Ray cluster. Only this file imports ray, and only when it is needed.

A run is a Ray task that asks for CPUs and GPUs; on the node that Ray chooses, the task starts the
same worker process that a supervisor starts on its own machine, and waits for it:

    supervisor  ──task──▶  carry_out_run, on a node  ──leash──▶  worker  ──lock──▶  run folder

Nothing but the exit status comes back: run folders lie on a file system that all nodes share, under
the same path. Who has a run is decided by its lock, and what becomes of it by its record:

- A node that is lost, or cut off from the cluster, ends its task with an error, which counts as
  a crash of the run (`retry`): it goes on from its last checkpoint on another node, and has failed
  after the third loss in a row without a new checkpoint. Ray itself repeats nothing, since it knows
  no checkpoints. Ray kills what runs on a node that was cut off, and the tasks of a supervisor that
  was killed; their runs lose the steps since their last checkpoints.
- A task whose run is done, or held by another process, leaves it alone.
- A task that is taken back (Ctrl-C) lets its worker write a checkpoint and hand the run back.
- While the worker of a lost node may still live, that is until its lock was not touched for
  `lock.STALE_SECONDS`, nobody else takes the run.
"""

# ray is an extra
# pyright: reportMissingImports=false

import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from dreamlab.core.errors import InputError, MissingError
from dreamlab.core.run_folder import RunFolder
from dreamlab.core.version import VERSION
from dreamlab.jobs.queue.local import start_here
from dreamlab.jobs.queue.process import Ring, phrase, worker_command

LOST = 1
"""Exit status of a task that did not come to its end."""
INTERRUPTED = 130
POLL_SECONDS = 0.2
"""After which a task that waits for its process notices that it was taken back."""
GRACE_SECONDS = 50.0
"""That a worker gets to write a checkpoint; less than `supervisor.GRACE_SECONDS`."""
KILL_SECONDS = 10.0
CONNECT_SECONDS = 5.0
LOOK_SECONDS = 60.0
"""In which every node must have answered at the start."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one run takes of its node; parts of a GPU are allowed."""

    cpus: float = 1.0
    """Also the number of threads, rounded down."""
    gpus: float | None = None
    """None: one if the cluster has any."""

    def __post_init__(self) -> None:
        if self.cpus < 0 or (self.gpus or 0) < 0 or self.cpus + (self.gpus or 0) == 0:
            raise InputError(
                f"a row cannot take {self.cpus:g} CPUs and {self.gpus or 0:g} GPUs.",
                "give --ray-cpus or --ray-gpus a number above 0.",
            )


@contextmanager
def connected(address: str, share: Share) -> Iterator["RayCluster"]:
    """Connect to a running cluster while inside.

    Args:
        address: `host:port` of its head, or "auto" for the one to which this machine belongs.
        share: of each run.

    Raises:
        MissingError: the package ray is not installed.
        InputError: there is no such cluster, or none of its nodes is large enough.
    """
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise MissingError(
            "--ray needs the package ray, which is not installed.",
            'install it on every node: pip install -e ".[cluster]".',
        ) from None
    if "://" in address:
        raise InputError(
            f"{address} is not the address of a cluster's head.",
            "run this on a machine of the cluster, with --ray auto or --ray HOST:PORT.",
        )
    try:
        if address != "auto":  # ray would try for more than a minute
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError, OverflowError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise InputError(
            f"there is no Ray cluster at {address}: {reason}.",
            "start one: `ray start --head`, and `ray start --address=HOST:PORT` on other nodes.",
        ) from None
    try:
        yield RayCluster(ray, share)
    finally:
        ray.shutdown()


class RayCluster:
    """The cluster to which this process is connected."""

    def __init__(self, ray: Any, share: Share) -> None:
        """Look at the nodes.

        Raises:
            InputError: none of them is large enough.
        """
        self._ray = ray
        nodes = [node for node in ray.nodes() if node["Alive"]]
        resources = [(node, node["Resources"]) for node in nodes]
        gpus = share.gpus
        if gpus is None:
            gpus = 1.0 if any(has.get("GPU", 0) >= 1 for _, has in resources) else 0.0
        self.cpus, self.gpus = share.cpus, gpus
        self.device = "cuda" if gpus > 0 else "cpu"
        fits = [(node, _how_often(has, share.cpus, gpus)) for node, has in resources]
        self._nodes = [node for node, number in fits if number > 0]
        self.capacity = sum(number for _, number in fits)
        """How many runs fit into it."""
        if self.capacity == 0:
            sizes = {f"{has.get('CPU', 0):g} and {has.get('GPU', 0):g}" for _, has in resources}
            raise InputError(
                f"no node of the cluster has {share.cpus:g} CPUs and {gpus:g} GPUs; they have "
                f"{', '.join(sorted(sizes))}.",
                "ask for less with --ray-cpus and --ray-gpus, or add a node.",
            )

    def slots(self, workers: int | None) -> list[str]:
        """Name the device of each run that may be given to the cluster at once.

        Args:
            workers: how many; those that do not fit wait for nodes. None: what fits at present.
        """
        return [self.device] * (workers or self.capacity)

    def check(self, folder: Path) -> None:
        """See whether every node can work in a folder.

        Raises:
            InputError: one does not see it, or lacks this version of dreamlab.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = self._ray.remote(num_cpus=0, max_retries=0)(look_at)
        with NamedTemporaryFile(dir=os.path.abspath(folder), prefix=".ray-") as token:
            asked = {
                f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})": look.options(
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ).remote(token.name)
                for node in self._nodes
            }
            for name, ref in asked.items():
                self._check_node(name, ref, folder)

    def _check_node(self, name: str, ref: Any, folder: Path) -> None:
        try:
            version, is_seen = self._ray.get(ref, timeout=LOOK_SECONDS)
        except (self._ray.exceptions.RayError, OSError) as error:
            raise InputError(
                f"node {name} cannot carry out rows: {_line(error)}.",
                "install dreamlab there as it is here, and see that the node is up.",
            ) from None
        if version != VERSION:
            raise InputError(
                f"node {name} has dreamlab {version}, here it is {VERSION}.",
                "install the same version on all nodes.",
            )
        if not is_seen:
            raise InputError(
                f"node {name} does not see {os.path.abspath(folder)}, or may not write there.",
                "choose a folder that all nodes share under the same path with --output.",
            )

    def start(self, folder: RunFolder, device: str, command: Sequence[str]) -> "RayProcess":
        """Give a run to the cluster.

        Args:
            folder: of the run.
            device: one of `slots`.
            command: that starts a worker; its first word is the interpreter, for which the node
                takes its own.
        """
        task = self._ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)
        path = RunFolder(Path(os.path.abspath(folder.root)))
        words = worker_command(path, device, command)
        return RayProcess(self._ray, task(carry_out_run).remote(str(path.root), words[1:]))


class RayProcess:
    """A run that was given to the cluster, as a `Process`."""

    def __init__(self, ray: Any, ref: Any) -> None:
        self._ray, self._ref = ray, ref
        self._future = ref.future()
        self._reason = ""

    def poll(self) -> int | None:
        if not self._future.done():
            return None
        try:
            code = self._future.result()
        except self._ray.exceptions.TaskCancelledError:
            self._reason = "it was taken back from the cluster"
            return INTERRUPTED
        except Exception as error:  # whatever ended the task
            self._reason = f"its node was lost or its task broke off: {_line(error)}"
            return LOST
        self._reason = phrase(code)
        return code

    def call_when_ended(self, ring: Ring) -> None:
        self._future.add_done_callback(lambda future: ring())

    def terminate(self) -> None:
        self._ray.cancel(self._ref, recursive=False)

    def kill(self) -> None:
        with suppress(ValueError):  # the task has ended
            self._ray.cancel(self._ref, force=True, recursive=False)
        self._ray.wait([self._ref], timeout=KILL_SECONDS)

    def reason(self) -> str:
        return self._reason


def carry_out_run(root: str, arguments: Sequence[str]) -> int:
    """Carry out a run on the node that executes this, and return the exit status of its worker.

    Args:
        root: the run folder.
        arguments: of this node's interpreter.
    """
    process = start_here(RunFolder(Path(root)), [sys.executable, *arguments], os.environ)
    ended = threading.Event()
    process.call_when_ended(ended.set)
    try:
        while not ended.wait(POLL_SECONDS):  # what ray.cancel raises comes in between
            pass
    except KeyboardInterrupt:
        process.terminate()
        ended.wait(GRACE_SECONDS)
        raise
    finally:
        if process.poll() is None:
            process.kill()
    code = process.poll()
    assert code is not None
    return code


def look_at(token: str) -> tuple[str, bool]:
    """Tell the version of dreamlab on a node, and whether a file can be written from there."""
    return VERSION, os.access(token, os.W_OK) and os.access(Path(token).parent, os.W_OK | os.X_OK)


def _how_often(has: dict[str, float], cpus: float, gpus: float) -> int:
    """Count the runs that fit into a node at once."""
    return int(
        min(
            has.get(name, 0.0) // need if need > 0 else float("inf")
            for name, need in (("CPU", cpus), ("GPU", gpus))
        )
    )


def _line(error: BaseException) -> str:
    """Say in a line what went wrong with a task; Ray puts the cause last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200].rstrip(".")
