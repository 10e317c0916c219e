"""Launching: ranges cover everything once, whatever the number of threads."""

import gc
import os
import subprocess
import sys
import weakref

import pytest
import torch
import warp as wp

from dreamlab.ops.warp_setup import (
    launch_scatter,
    launch_split,
    pixel_runs,
    split_ranges,
    warp_summary,
)


@wp.kernel(enable_backward=False)
def count_kernel(start: wp.int32, visits: wp.array(dtype=wp.int32)):
    visits[start + wp.tid()] += 1


@wp.kernel(enable_backward=False)
def range_kernel(start: wp.int32, length: wp.int32, visits: wp.array(dtype=wp.int32)):
    for i in range(start + wp.tid() * 4, wp.min(start + wp.tid() * 4 + 4, start + length)):
        visits[i] += 1


@pytest.mark.parametrize("count", [1, 5, 1000, 12345])
@pytest.mark.parametrize("num_ranges", [1, 2, 7])
@pytest.mark.parametrize("grain", [1, 100])
def test_ranges_cover_all_items_once_and_are_not_tiny(count, num_ranges, grain):
    ranges = split_ranges(count, num_ranges, grain)
    assert len(ranges) <= num_ranges
    covered = [i for start, length in ranges for i in range(start, start + length)]
    assert covered == list(range(count))
    assert len(ranges) == 1 or min(length for _, length in ranges) >= grain


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 10_001])
def test_every_item_is_run_once(threads, count):
    single = torch.zeros(10_001, dtype=torch.int32)
    ranged = torch.zeros_like(single)
    torch.set_num_threads(threads)
    try:
        launch_split(count_kernel, count, [single], "cpu")
        launch_split(range_kernel, count, [ranged], "cpu", tasks=lambda n: -(-n // 4))
    finally:
        torch.set_num_threads(1)
    assert single[:count].eq(1).all() and not single[count:].any()
    assert ranged[:count].eq(1).all() and not ranged[count:].any()


@wp.kernel(enable_backward=False)
def greatest_kernel(start: wp.int32, modulus: wp.int32, greatest: wp.array(dtype=wp.int64)):
    item = start + wp.tid()
    wp.atomic_max(greatest, item % modulus, wp.int64(item))


@wp.kernel(enable_backward=False)
def sum_kernel(start: wp.int32, values: wp.array(dtype=wp.vec2), total: wp.array(dtype=wp.vec2)):
    total[0] += values[start + wp.tid()]


@pytest.mark.parametrize("threads", [1, 3])
def test_scattered_outputs_of_all_ranges_are_merged(threads):
    values = torch.arange(2000.0).view(1000, 2)
    torch.set_num_threads(threads)
    try:
        total = launch_scatter(sum_kernel, 1000, [values], (2,), "cpu", grain=1)
        greatest = launch_scatter(
            greatest_kernel,
            1000,
            [7],
            (7,),
            "cpu",
            grain=1,
            dtype=torch.int64,
            merge=torch.amax,
        )
    finally:
        torch.set_num_threads(1)
    assert torch.equal(total, values.sum(dim=0))
    assert greatest.tolist() == [max(range(k, 1000, 7)) for k in range(7)]


@wp.struct
class Line:
    slope: wp.float32
    offset: wp.float32


@wp.kernel(enable_backward=False)
def line_kernel(start: wp.int32, line: Line, shift: wp.vec2, values: wp.array(dtype=wp.float32)):
    item = start + wp.tid()
    values[item] = line.slope * wp.float32(item) + line.offset + shift[0]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_launch_that_is_repeated_takes_what_it_is_told_now(threads):
    torch.set_num_threads(threads)
    try:
        for count, slope, shift in [(5000, 2.0, 0.5), (3000, -1.0, 0.0), (7000, 3.0, 4.0)]:
            line = Line()
            line.slope, line.offset = slope, 1.0
            values = torch.zeros(count + 1)
            launch_split(line_kernel, count, [line, wp.vec2(shift, 0.0), values], "cpu")
            expected = slope * torch.arange(float(count)) + 1 + shift
            assert torch.equal(values[:-1], expected) and values[-1] == 0
    finally:
        torch.set_num_threads(1)


def test_a_launch_keeps_no_tensor():
    values = torch.zeros(10, dtype=torch.int32)
    launch_split(count_kernel, 10, [values], "cpu")
    gone = weakref.ref(values)
    del values
    gc.collect()
    assert gone() is None


def test_tensors_that_are_not_what_a_kernel_declares_are_refused():
    total = torch.zeros(2)
    with pytest.raises(RuntimeError, match="float64"):
        launch_split(sum_kernel, 1, [torch.zeros(4, dtype=torch.float64), total], "cpu")
    with pytest.raises(ValueError, match="no row of"):
        launch_split(sum_kernel, 1, [torch.zeros(3), total], "cpu")
    with pytest.raises(ValueError, match="no row of"):
        launch_split(sum_kernel, 1, [torch.zeros(2, 4).t(), total], "cpu")


@pytest.mark.parametrize(("kind", "length", "count"), [("cpu", 20, 15), ("cuda", 1, 300)])
def test_pixels_are_cut_into_rows_on_a_cpu_alone(kind, length, count):
    runs = pixel_runs(300, 20, torch.device(kind))
    assert (runs.length, runs.count) == (length, count)


def test_summary_names_the_version_and_the_cache():
    summary = warp_summary()
    assert wp.__version__ in summary and wp.config.kernel_cache_dir in summary


def test_starting_warp_writes_nothing():
    code = "import dreamlab.ops.warp_setup"
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_can_launch_after_its_parent_did():
    code = """
import os, torch
torch.set_num_threads(2)
from dreamlab.ops.volume.composite import composite
from dreamlab.ops.volume.march import Samples
n = 4096
offsets = torch.arange(n + 1, dtype=torch.int32)
samples = Samples(offsets[:-1].clone(), torch.zeros(n), torch.ones(n), offsets)
alpha = composite(torch.ones(n), torch.ones(n, 1), samples).alpha
child = os.fork()
if child == 0:
    torch.set_num_threads(2)
    same = torch.equal(alpha, composite(torch.ones(n), torch.ones(n, 1), samples).alpha)
    os._exit(0 if same else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
