"""Warp, started quietly, and one way to launch its kernels on any device.

Warp compiles one Python source for the CPU (bundled LLVM) and for CUDA (bundled NVRTC), so no
compiler is needed. Three facts about its CPU side shape this module and the kernels:

- a launch runs on one thread but releases the interpreter lock, so a launch is cut into ranges
  that run on a thread pool;
- `wp.atomic_add` is a plain addition there, so ranges that run at the same time must write to
  different places. Each kernel says along which axis that holds and is split along that axis;
- a `for` over a range costs some nanoseconds a round, so that the innermost loops of triangles and
  splats are `while`.

Convention: the first parameter of every kernel is `start`, the first item (point, ray, level) of
the range that its launch owns.
"""

import contextlib
import functools
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
import warp as wp
from torch import Tensor


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
    """Send what native code writes to file descriptor 2 to nowhere."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _start_warp() -> None:
    """Initialise Warp without its banner and without its notice that there is no CUDA driver."""
    wp.config.log_level = wp.LOG_ERROR
    with _stderr_closed():
        wp.init()


_start_warp()


def has_cuda() -> bool:
    """Return whether Warp can run kernels on an NVIDIA GPU here."""
    return bool(wp.is_cuda_available())


def warp_summary() -> str:
    """Say in one line which Warp runs here, on what, and where it keeps compiled kernels."""
    devices = "CPU and CUDA" if has_cuda() else "CPU"
    return f"Warp {wp.__version__} on {devices}, kernels cached in {wp.config.kernel_cache_dir}"


LIGHT_GRAIN = 131072
"""Least number of items worth a range of its own where one takes some ten nanoseconds.

Handing a range to another thread and waiting for it takes 0.1 to 0.3 ms.
"""
_load_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _forget_pool() -> None:
    """Drop the pool in a forked child: its threads exist in the parent only."""
    global _pool, _pool_size
    _pool, _pool_size = None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _thread_pool(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    if _pool is None or _pool_size < size:
        _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="dreamlab-ops"), size
    return _pool


def split_ranges(count: int, num_ranges: int, grain: int) -> list[tuple[int, int]]:
    """Cut [0, count) into at most `num_ranges` ranges (start, length) of at least `grain` items."""
    num_ranges = max(1, min(num_ranges, count // max(grain, 1)))
    edges = [count * i // num_ranges for i in range(num_ranges + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(edges)]


class Runs(NamedTuple):
    """Runs of neighbouring pixels of a row, one a Warp thread."""

    length: int
    """Pixels."""
    count: int
    """Of all pictures together."""
    grain: int
    """Least number of runs worth a range of its own."""


def runs_in_turn(device: torch.device) -> bool:
    """Return whether a launch runs its threads one after the other, which then best do much each.

    So it is on a CPU. On CUDA they run side by side, and the less each does the more there are.
    """
    return device.type == "cpu"


def pixel_runs(pixels: int, width: int, device: torch.device) -> Runs:
    """Cut pictures into runs: on CUDA single pixels, on a CPU whole rows.

    There each thread would find its pixel's row by two divisions.
    """
    length = width if runs_in_turn(device) else 1
    return Runs(length, pixels // length, -(-LIGHT_GRAIN // length))


_Descriptor: Any = type(wp.zeros(1, dtype=wp.float32, device="cpu").__ctype__())
"""What a kernel gets as an array: address, shape and strides."""


@functools.lru_cache(maxsize=256)
def _item_of(dtype: torch.dtype, declared: Any) -> tuple[int, int]:
    """Return how many numbers of a tensor make an item of a declared array, and its bytes.

    Warp itself checks, once, whether the types go together.
    """
    shape = getattr(declared, "_shape_", ())
    wp.from_torch(torch.empty(1, *shape, dtype=dtype), dtype=declared, return_ctype=True)
    return math.prod(shape), math.prod(shape) * dtype.itemsize


def _argument(value: Any, annotation: Any) -> Any:
    """Turn a tensor into the array type that the kernel declares; pass numbers through.

    A one-dimensional array of vectors takes any tensor whose numbers are those vectors in a row.
    For these `wp.from_torch` would do, which takes five times as long. The array does not keep the
    tensor's memory: that is for whoever launches.
    """
    if not isinstance(value, Tensor):
        return value
    if annotation.ndim > 1:
        return wp.from_torch(value.detach(), dtype=annotation.dtype, return_ctype=True)
    numbers, size = _item_of(value.dtype, annotation.dtype)
    count, rest = divmod(value.numel(), numbers)
    if rest or not value.is_contiguous():
        raise ValueError(f"a tensor of shape {tuple(value.shape)} is no row of {annotation.dtype}")
    return _Descriptor(value.data_ptr(), 0, 1, (count,), (size,))


@functools.lru_cache(maxsize=1024)
def _declared(kernel: Any, leading: int) -> tuple[Any, ...]:
    """Return what a kernel declares after its `leading` first parameters."""
    return tuple(argument.type for argument in kernel.adj.args[leading:])


def _arguments(kernel: Any, inputs: Sequence[Any], leading: int) -> list[Any]:
    """Turn inputs into what the kernel declares after its `leading` first parameters."""
    pairs = zip(inputs, _declared(kernel, leading), strict=True)
    return [_argument(value, kind) for value, kind in pairs]


@functools.lru_cache(maxsize=1024)
def _loaded_on(kernel: Any, device: torch.device) -> Any:
    """Compile and load the kernel's module, and return the device as Warp names it.

    It is done before several threads may ask for it at once.
    """
    with _load_lock:
        place = wp.get_device(str(device))
        kernel.module.load(place, block_dim=1 if device.type == "cpu" else None)
        return place


class _Commands(threading.local):
    """The launches that a thread has made, to be repeated with other arguments.

    Warp looks at a kernel and its arguments for 10 us before it starts; a repeated launch takes 5.
    """

    def __init__(self) -> None:
        self.recorded: dict[tuple[Any, torch.device], Any] = {}


_commands = _Commands()
_PLAIN = (int, float, _Descriptor)
"""What a launch takes as it is."""


def _launch(kernel: Any, device: torch.device, items: int, arguments: list[Any]) -> None:
    """Run a kernel on so many Warp threads; on CUDA on torch's current stream."""
    if items == 0:
        return
    command: Any = _commands.recorded.get((kernel, device))
    if command is None:
        place = _loaded_on(kernel, device)
        command = wp.launch(kernel, items, arguments, device=place, record_cmd=True)
        _commands.recorded[kernel, device] = command
    if command.bounds.size != items:
        command.set_dim(items)
    for index, value in enumerate(arguments):
        if isinstance(value, _PLAIN):
            command.set_param_at_index_from_ctype(index, value)
        else:
            command.set_param_at_index(index, value)
    is_cuda = device.type == "cuda"
    command.launch(wp.stream_from_torch(torch.cuda.current_stream(device)) if is_cuda else None)


def _threads(device: torch.device) -> int:
    return torch.get_num_threads() if runs_in_turn(device) else 1


def _run_all(jobs: Sequence[Callable[[], None]], threads: int) -> None:
    """Run jobs on the thread pool and wait; one alone runs right here."""
    if len(jobs) == 1:
        jobs[0]()
        return
    pool = _thread_pool(threads)
    for future in [pool.submit(job) for job in jobs]:
        future.result()


def launch_split(
    kernel: Any,
    count: int,
    inputs: Sequence[Any],
    device: torch.device | str,
    *,
    tasks: Callable[[int], int] | None = None,
    ranges_per_thread: int = 2,
    grain: int = 1024,
) -> None:
    """Run `kernel` over items [0, count), split over threads on a CPU, in one launch on CUDA.

    Args:
        kernel: its first parameter is `start` and its item is `start + wp.tid()`; with `tasks` its
            first two parameters are `start` and `length`, the range that the launch owns.
        count: number of items; nothing is launched for 0.
        inputs: the other arguments; contiguous tensors become the arrays the kernel declares.
        device: where the tensors are. On CUDA the launch joins torch's current stream.
        tasks: number of Warp threads for a range of that length, for kernels that cut up the work
            of a range themselves.
        ranges_per_thread: more ranges even out unequal work, but each costs about 0.1 ms; one
            keeps caches warm.
        grain: least number of items worth a range of its own.
    """
    if count == 0:
        return
    device = torch.device(device)
    arguments = _arguments(kernel, inputs, 1 if tasks is None else 2)
    _loaded_on(kernel, device)

    def run(start: int, length: int) -> None:
        if tasks is None:
            _launch(kernel, device, length, [start, *arguments])
        else:
            _launch(kernel, device, tasks(length), [start, length, *arguments])

    threads = _threads(device)
    ranges = split_ranges(count, threads * ranges_per_thread if threads > 1 else 1, grain)
    _run_all([functools.partial(run, *part) for part in ranges], threads)


def launch_scatter(
    kernel: Any,
    count: int,
    inputs: Sequence[Any],
    shape: tuple[int, ...],
    device: torch.device | str,
    *,
    grain: int = 4096,
    dtype: torch.dtype = torch.float32,
    merge: Callable[[Tensor, int], Tensor] = torch.sum,
) -> Tensor:
    """Run a kernel that adds into any place of its last argument, and return that sum.

    On a CPU every range adds into a buffer of its own; on CUDA all add atomically into one.

    Args:
        kernel: as in `launch_split`; its last argument is the flat output, zero at first.
        count: number of items.
        inputs: the arguments between `start` and the output.
        shape: of the output.
        device: where the tensors are.
        grain: least number of items worth a range, and so a buffer, of its own.
        dtype: of the output.
        merge: what makes one of the buffers (first axis) of a CPU; `torch.amax` for a kernel that
            keeps the greatest instead of adding.
    """
    device = torch.device(device)
    threads = _threads(device)
    ranges = split_ranges(count, threads, grain)
    buffers = torch.zeros(len(ranges), *shape, dtype=dtype, device=device)

    def run(buffer: Tensor, start: int, length: int) -> None:
        arguments = _arguments(kernel, [*inputs, buffer.view(-1)], 1)
        _launch(kernel, device, length, [start, *arguments])

    parts = zip(buffers, ranges, strict=True)
    if count > 0:
        _run_all([functools.partial(run, buffer, *part) for buffer, part in parts], threads)
    return buffers[0] if len(ranges) == 1 else merge(buffers, 0)
