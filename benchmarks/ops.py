"""How much faster the kernels of `dreamlab.ops` are than plain torch, as ratios.

    python benchmarks/ops.py [--output FOLDER] [--repeats 5] [--points 160000]

Every figure is CPU time of one process (all of its threads), the median over repeats, so other load
on the machine blurs it little; a ratio compares two figures taken in turns. "Plain torch" is the
reference implementation of the same operation, on the same inputs.

Scaling to two threads is the CPU time on one thread over that of the busiest of two threads plus
what stays serial. On an idle machine that is the ratio of wall times; on a busy one wall time
would measure the neighbours.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

from dreamlab.core.cameras import turntable_cameras
from dreamlab.ops.backends import Backend
from dreamlab.ops.composite import composite
from dreamlab.ops.hashgrid import HashGridConfig, HashGridLayout, hash_encode
from dreamlab.ops.march import Samples, march
from dreamlab.ops.warp_setup import warp_summary

STEP = 2 * 3**0.5 / 512
"""March step, world units: 512 samples along the diagonal of the cube."""
HALF_EXTENT = 1.0


class Row(NamedTuple):
    """One line of the table."""

    what: str
    fast_ms: float
    slow_ms: float
    goal: float | None

    @property
    def ratio(self) -> float:
        """How many times less the first takes."""
        return self.slow_ms / self.fast_ms


def cpu_milliseconds(run: Callable[[], object]) -> float:
    """Time one call: CPU time of the process, ms."""
    begin = time.process_time()
    run()
    return 1e3 * (time.process_time() - begin)


def compare(
    what: str, fast: Callable[[], object], slow: Callable[[], object], repeats: int, goal: float
) -> Row:
    """Time two ways of doing the same in turns, after one call of each that is not counted."""
    fast(), slow()
    pairs = [(cpu_milliseconds(fast), cpu_milliseconds(slow)) for _ in range(repeats)]
    fast_ms, slow_ms = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Row(what, fast_ms, slow_ms, goal)


def critical_milliseconds(run: Callable[[], object]) -> float:
    """CPU time of this thread plus that of the busiest worker thread during one call, ms."""

    def clocks() -> dict[int, float]:
        threads = [t for t in threading.enumerate() if t.name.startswith("dreamlab-ops")]
        idents = [t.ident for t in (threading.current_thread(), *threads) if t.ident is not None]
        return {i: time.clock_gettime(time.pthread_getcpuclockid(i)) for i in idents}

    before = clocks()
    run()
    spent = {i: clock - before.get(i, 0.0) for i, clock in clocks().items()}
    own = spent.pop(threading.get_ident())
    return 1e3 * (own + max(spent.values(), default=0.0))


def scaling(what: str, run: Callable[[], object], repeats: int) -> Row:
    """Compare the critical path on two threads with one thread."""
    figures: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(repeats + 1):
        for threads, times in figures.items():
            torch.set_num_threads(threads)
            times.append(critical_milliseconds(run))
            if repeat == 0:
                times.clear()
    torch.set_num_threads(1)
    return Row(what, statistics.median(figures[2]), statistics.median(figures[1]), 1.6)


def along_rays(num_points: int, generator: torch.Generator) -> Tensor:
    """Return points in the unit cube as rendering asks for them: 40 in a row along each ray."""
    direction = torch.randn(num_points // 40, 1, 3, generator=generator)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    return (0.5 + 0.3 * direction * torch.linspace(-1, 1, 40)[:, None]).reshape(-1, 3)


def hash_grid_call(log2_table_size: int, points: Tensor) -> Callable[[Backend], None]:
    """Return a function that encodes the points and sends a gradient back to the table."""
    layout = HashGridLayout.of(HashGridConfig(log2_table_size=log2_table_size))
    table = torch.zeros(layout.num_entries, 2).uniform_(-1e-4, 1e-4).requires_grad_()
    cotangent = torch.randn(len(points), layout.num_outputs)

    def call(backend: Backend) -> None:
        torch.autograd.grad(hash_encode(points, table, layout, backend=backend), table, cotangent)

    return call


class Field(nn.Module):
    """A small radiance field: hash grid, then a network 32-64-4."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.backend: Backend = backend
        self.layout = HashGridLayout.of(HashGridConfig(log2_table_size=15))
        self.table = nn.Parameter(torch.zeros(self.layout.num_entries, 2).uniform_(-1e-4, 1e-4))
        self.network = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 4))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-2, fused=True)

    def step(self, points: Tensor, samples: Samples, target: Tensor) -> None:
        """Evaluate, composite, compare with a picture, and update."""
        unit = points / (2 * HALF_EXTENT) + 0.5
        output = self.network(hash_encode(unit, self.table, self.layout, backend=self.backend))
        density = nn.functional.softplus(output[:, 0])
        image = composite(density, output[:, 1:].sigmoid(), samples, backend=self.backend)
        self.optimizer.zero_grad()
        nn.functional.mse_loss(image.features, target).backward()
        self.optimizer.step()


def nerf_rows(size: int, repeats: int) -> list[Row]:
    """Time marching and an optimisation step at `size` x `size` pixels of a ball."""
    origins, directions = (
        rays.reshape(-1, 3).contiguous()
        for rays in turntable_cameras(1, distance=3.0, fov_y=42.0).rays(size, size)
    )
    axis = (torch.arange(64) + 0.5) / 32 - 1
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    binary = grid.norm(dim=-1) < 0.6
    jitter = torch.rand(len(origins))

    def sample(backend: Backend = "warp") -> Samples:
        return march(
            origins,
            directions,
            binary,
            half_extent=HALF_EXTENT,
            step_size=STEP,
            jitter=jitter,
            backend=backend,
        )

    samples = sample()
    points, target = samples.points(origins, directions), torch.rand(len(origins), 3)
    covered = (samples.offsets.diff() > 0).float().mean().item()
    case = f"{size}x{size} px, 2^15, {len(samples)} samples on {covered:.0%} of the rays"
    fast, slow = Field("warp"), Field("reference")

    def fast_step() -> None:
        marched = sample()
        fast.step(marched.points(origins, directions), marched, target)

    return [
        compare(
            f"NeRF optimisation step, {case} (torch gets its samples for free)",
            fast_step,
            lambda: slow.step(points, samples, target),
            repeats,
            5.0,
        ),
        scaling(f"march on two threads, {size}x{size} px", sample, 4 * repeats),
        _composite_scaling(samples, repeats),
    ]


def _composite_scaling(samples: Samples, repeats: int) -> Row:
    density = torch.rand(len(samples), requires_grad=True)
    features = torch.rand(len(samples), 4, requires_grad=True)

    def run() -> None:
        image = composite(density, features, samples)
        torch.autograd.grad(image.features.sum(), (density, features))

    return scaling(f"composite forward + backward on two threads, {len(samples)} samples", run, 20)


def measure(num_points: int, repeats: int) -> list[Row]:
    """Take all figures."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    rows = []
    for log2_table_size, goal in ((19, 8.0), (15, 10.0)):
        for name, points in (
            ("random", torch.rand(num_points, 3, generator=generator)),
            ("along rays", along_rays(num_points, generator)),
        ):
            call = hash_grid_call(log2_table_size, points)
            what = f"hash grid forward + backward, 2^{log2_table_size}, {num_points} points {name}"
            # Plain torch takes seconds a call: two repeats of it are enough.
            slow_repeats = min(repeats, 2)
            rows.append(
                compare(
                    what,
                    lambda call=call: call("warp"),
                    lambda call=call: call("reference"),
                    slow_repeats,
                    goal,
                )
            )
    rows.append(
        scaling(
            f"hash grid forward + backward on two threads, 2^15, {num_points} points along rays",
            lambda: call("warp"),
            repeats,
        )
    )
    return rows + nerf_rows(64, repeats)


def machine() -> str:
    """Describe the processor and how busy the machine is."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} x {model}, load {load:.1f}; torch {torch.__version__}; Warp on CPU"


def table_of(rows: list[Row], about: str) -> str:
    """Write the rows as a markdown table."""
    lines = [
        f"{about}. {warp_summary().split(',')[0]}. Milliseconds of CPU time.",
        "",
        "| what | dreamlab | compared with | ratio | goal |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        goal = f"{row.goal:g}" if row.goal else ""
        lines.append(
            f"| {row.what} | {row.fast_ms:.1f} | {row.slow_ms:.1f} | {row.ratio:.1f} | {goal} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the table, and write `ops.md` and `ops.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--repeats", type=int, default=5, help="timed calls a figure")
    parser.add_argument("--points", type=int, default=160_000, help="points of the hash grid")
    arguments = parser.parse_args()
    rows = measure(arguments.points, arguments.repeats)
    about = machine()
    table = table_of(rows, about)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "ops.md").write_text(table)
    content = {"machine": about, "rows": [{**row._asdict(), "ratio": row.ratio} for row in rows]}
    (arguments.output / "ops.json").write_text(json.dumps(content, indent=2) + "\n")
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
