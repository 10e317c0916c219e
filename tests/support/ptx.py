"""Run kernels that were compiled for an NVIDIA GPU on a machine that has none.

Warp brings the compiler for NVIDIA's virtual instructions (PTX), which needs no GPU. Here these
instructions are carried out with numpy, one for all threads of a launch at once: a thread waits
only where others are at an earlier instruction. So more happens at the same time than on any real
GPU, and what threads do to each other's memory shows:

- a plain `x[i] = x[i] + 1` by several threads at one place loses all but one of them;
- `DataRace` is raised if one instruction stores different numbers at one place;
- `OutOfBounds` is raised if an address lies in no array of the launch.

It tells nothing of speed, of streams, or of the last digit of exp and reciprocals.

Glossary: a *lane* is a thread of the launch, by its index; a *register* holds one number a lane; a
*block* is a row of instructions that is entered at its first and left after its last one.
"""

import collections
import contextlib
import ctypes
import functools
import operator
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import warp as wp
from warp._src.types import launch_bounds_t

from dreamlab.ops import warp_setup

THREADS = 256
"""A block of the grid, as Warp launches kernels."""
ARCHITECTURE = 75
"""Turing, the oldest GPUs that Warp 1.19 compiles for."""
TYPES = {
    "pred": np.bool_,
    **{f"{kind}{bits}": np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64) for kind in "ub"},
    **{f"s{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    "f32": np.dtype("f4"),
    "f64": np.dtype("f8"),
}
_ORIGIN = 4096
"""Where the view of all memory starts; the page below is nobody's."""


class DataRace(AssertionError):
    """Threads store different numbers at one place by the same instruction."""


class OutOfBounds(AssertionError):
    """A thread reads or writes outside of what the launch was given."""


@functools.cache
def _all_memory(dtype: np.dtype) -> np.ndarray:
    """View the process's memory as numbers of a type, from `_ORIGIN` on."""
    count = (1 << 47) // dtype.itemsize
    kind = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}
    cells = (kind[dtype.itemsize] * count).from_address(_ORIGIN)
    return np.ctypeslib.as_array(cells).view(dtype)


class _Arrays:
    """The memory that a launch may touch: ranges [start, end) of addresses."""

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        ranges = sorted(ranges)
        self.starts = np.array([start for start, _ in ranges], dtype=np.uint64)
        self.ends = np.maximum.accumulate(np.array([end for _, end in ranges], dtype=np.uint64))

    def check(self, addresses: np.ndarray, size: int) -> None:
        place = np.searchsorted(self.starts, addresses, side="right") - 1
        if (place < 0).any() or (addresses + np.uint64(size) > self.ends[place]).any():
            raise OutOfBounds("an address lies in no array of the launch")


def _float(bits: str) -> float:
    """Read a float that PTX writes as the digits of its bytes: 0f3F800000 is 1."""
    code, size = (">f", 4) if bits[1] in "fF" else (">d", 8)
    return struct.unpack(code, int(bits[2:], 16).to_bytes(size, "big"))[0]


def _constant(text: str, dtype: np.dtype) -> np.ndarray:
    if text[:2].lower() in ("0f", "0d"):
        return np.array(_float(text), dtype=np.dtype(f"f{4 if text[1] in 'fF' else 8}")).view(dtype)
    value = int(text, 0)
    if dtype == np.bool_:
        return np.array(bool(value))
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return np.array(value & ((1 << 8 * dtype.itemsize) - 1), dtype=unsigned).view(dtype)


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Divide; integers towards zero, and by zero to anything."""
    if a.dtype.kind == "f":
        return a / b
    b = np.where(b == 0, np.ones_like(b), b)
    exact = np.abs(a) // np.abs(b) if a.dtype.kind == "i" else a // b
    return (
        np.where((a < 0) != (b < 0), -exact, exact).astype(a.dtype)
        if a.dtype.kind == "i"
        else exact
    )


def _shift(move: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def shift(a: np.ndarray, count: np.ndarray) -> np.ndarray:
        bits = 8 * a.dtype.itemsize
        beyond = (
            np.where(a < 0, -1, 0).astype(a.dtype) if move is np.right_shift else a.dtype.type(0)
        )
        return np.where(count >= bits, beyond, move(a, np.minimum(count, bits - 1).astype(a.dtype)))

    return shift


def _fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Multiply and add with one rounding (all but one: the sum is rounded to double first)."""
    return (a.astype("f8") * b.astype("f8") + c.astype("f8")).astype(a.dtype)


def _fma_down(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    exact = a.astype("f8") * b.astype("f8") + c.astype("f8")
    near = exact.astype("f4")
    return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near).astype("f4")


def _high(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the upper half of a product of 32-bit integers."""
    wide = np.dtype(f"{a.dtype.kind}8")
    return ((a.astype(wide) * b.astype(wide)) >> wide.type(32)).astype(a.dtype)


def _bit_field_insert(a: Any, b: Any, position: Any, length: Any) -> np.ndarray:
    one = np.uint64(1)
    mask = ((one << length.astype("u8")) - one) << position.astype("u8")
    inserted = (a.astype("u8") << position.astype("u8")) & mask
    return (inserted | (b.astype("u8") & ~mask)).astype(a.dtype)


ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "mul.hi": _high,
    "div": _quotient,
    "rem": lambda a, b: a - _quotient(a, b) * b,
    "min": np.fmin,
    "max": np.fmax,
    "neg": operator.neg,
    "abs": np.abs,
    "not": np.invert,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "shl": _shift(np.left_shift),
    "shr": _shift(np.right_shift),
    "mad": lambda a, b, c: a * b + c,
    "fma": _fma,
    "fma.rm": _fma_down,
    "sqrt": np.sqrt,
    "rcp": lambda a: a.dtype.type(1) / a,
    "rsqrt": lambda a: a.dtype.type(1) / np.sqrt(a),
    "ex2": np.exp2,
    "lg2": np.log2,
    "copysign": lambda sign, size: np.copysign(size, sign),
    "bfi": _bit_field_insert,
}
COMPARISONS: dict[str, Callable[..., Any]] = {
    "eq": operator.eq,
    "ne": lambda a, b: (a < b) | (a > b),
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "equ": lambda a, b: ~((a < b) | (a > b)),
    "neu": operator.ne,
    "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b),
    "geu": lambda a, b: ~(a < b),
}
"""Those that end in u also hold where a number is NaN."""
ROUNDING = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}
TOGETHER = {"add": np.add, "min": np.minimum, "max": np.maximum}


def _converted(value: np.ndarray, to: np.dtype, flags: list[str]) -> np.ndarray:
    """Carry out `cvt`: round where it says so, saturate to [0, 1] or to the integers of a type."""
    for name in flags:
        value = ROUNDING.get(name, lambda same: same)(value)
    if "sat" in flags:
        value = np.clip(np.nan_to_num(value, nan=0.0), 0, 1)
    if value.dtype.kind == "f" and to.kind in "iu":
        limits = np.iinfo(to)
        held = np.clip(np.nan_to_num(value.astype("f8"), nan=0.0), limits.min, limits.max)
        return held.astype(to)
    return value.astype(to)


class Program:
    """A kernel's instructions, taken apart once."""

    def __init__(self, name: str, signature: str, body: str) -> None:
        self.name = name
        self.parameters = re.findall(r"(\w+_param_\d+)", signature)
        self.registers: dict[str, tuple[np.dtype, int]] = {}
        self.locals: dict[str, int] = {}
        self.instructions: list[tuple[str, str, list[str]]] = []
        self.labels: dict[str, int] = {}
        for line in map(str.strip, body.splitlines()):
            self._take(line.split("//")[0].strip())
        self.mentions = collections.Counter(re.findall(r"%\w+", body))
        starts = {0, len(self.instructions), *self.labels.values()}
        starts |= {i + 1 for i, (_, code, _) in enumerate(self.instructions) if _leaves(code)}
        self.ends = dict(zip(sorted(starts), sorted(starts)[1:], strict=False))

    def _take(self, line: str) -> None:
        if found := re.match(r"\.reg \.(\w+)\s+(%\w+?)(?:<(\d+)>)?;", line):
            self.registers[found[2]] = np.dtype(TYPES[found[1]]), int(found[3] or 0)
        elif found := re.match(r"\.local .*\s(\w+)\[(\d+)\];", line):
            self.locals[found[1]] = int(found[2])
        elif line.endswith(":"):
            self.labels[line[:-1]] = len(self.instructions)
        elif line and line[0] not in ".{}":
            guard, code, operands = re.findall(r"(?:@(!?%p\d+)\s+)?([^\s;]+)\s*([^;]*);", line)[0]
            parts = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", operands)
            self.instructions.append((guard, code, parts))


def _leaves(code: str) -> bool:
    return code.split(".", maxsplit=1)[0] in ("bra", "ret")


class Launch:
    """One launch of a program: the numbers of all lanes, and what its instructions do to them."""

    def __init__(
        self,
        program: Program,
        parameters: list[bytes],
        items: int,
        arrays: list[tuple[int, int]] | None,
    ) -> None:
        self.program = program
        self.lanes = -(-items // THREADS) * THREADS
        self.parameters = dict(zip(program.parameters, parameters, strict=True))
        self.values: dict[str, np.ndarray] = {}
        for prefix, (dtype, count) in program.registers.items():
            names = [f"{prefix}{i}" for i in range(count)] if count else [prefix]
            self.values |= {name: np.zeros(self.lanes, dtype) for name in names}
        own = sum(program.locals.values())
        self.memory = np.zeros(self.lanes * own + 16, np.uint8)
        self.shared = np.zeros(1 << 16, np.uint8)
        self.random = np.random.default_rng(0)
        index = np.arange(self.lanes, dtype=np.uint32)
        self.named = {
            "%tid.x": index % THREADS,
            "%ctaid.x": index // THREADS,
            "%ntid.x": np.full(self.lanes, THREADS, np.uint32),
            "%nctaid.x": np.full(self.lanes, self.lanes // THREADS, np.uint32),
        }
        start = self.memory.ctypes.data
        for name, size in program.locals.items():
            self.named[name] = (start + index.astype(np.uint64) * np.uint64(size)).astype(np.uint64)
            start += size * self.lanes
        whole = (self.memory.ctypes.data, self.memory.ctypes.data + self.memory.nbytes)
        self.arrays = None if arrays is None else _Arrays([*arrays, whole])
        self.steps = [self._step(*line) for line in program.instructions]

    def run(self) -> None:
        """Let those lanes go on that are furthest behind, until all have returned."""
        end = len(self.steps)
        place = np.zeros(self.lanes, np.int64)
        with np.errstate(all="ignore"):
            while (first := int(place.min())) < end:
                lanes = np.flatnonzero(place == first)
                last = self.program.ends[first]
                target: Any = None
                for step in self.steps[first:last]:
                    target = step(lanes)
                place[lanes] = last if target is None else np.where(target < 0, last, target)

    def _read(self, text: str, dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
        held = self.values.get(text, self.named.get(text))
        if held is None:
            if text.endswith("smem_base"):
                return lambda lanes: np.zeros(1, dtype)
            value = _constant(text, dtype)
            return lambda lanes: np.broadcast_to(value, lanes.shape)
        if held.dtype.itemsize > dtype.itemsize:
            narrow = held.view(np.dtype(f"u{held.dtype.itemsize}"))
            bits = np.dtype(f"u{dtype.itemsize}")
            return lambda lanes: narrow[lanes].astype(bits).view(dtype)
        return lambda lanes: held[lanes].view(dtype)

    def _write(self, text: str, lanes: np.ndarray, value: np.ndarray) -> None:
        held = self.values[text]
        if value.dtype.itemsize < held.dtype.itemsize:
            value = value.astype(np.dtype(f"{value.dtype.kind}{held.dtype.itemsize}"))
        held[lanes] = value.view(held.dtype)

    def _step(self, guard: str, code: str, operands: list[str]) -> Callable[[np.ndarray], Any]:
        """Turn an instruction into what it does to lanes; branches return where these go on."""
        name, *flags = code.split(".")
        if _leaves(code):
            return self._branch(guard, name, operands)
        make = {"ld": self._load, "st": self._store, "atom": self._atomic}
        if name in make:
            step = make[name](flags, operands)
        else:
            step = self._compute(name, flags, operands)
        if not guard:
            return step
        holds = self._read(guard.lstrip("!"), np.dtype(np.bool_))
        return lambda lanes: step(lanes[holds(lanes) != guard.startswith("!")])

    def _branch(self, guard: str, name: str, operands: list[str]) -> Callable[[np.ndarray], Any]:
        target = (
            self.program.labels[operands[0]] if name == "bra" else len(self.program.instructions)
        )
        if not guard:
            return lambda lanes: np.full(lanes.shape, target)
        holds = self._read(guard.lstrip("!"), np.dtype(np.bool_))
        return lambda lanes: np.where(holds(lanes) != guard.startswith("!"), target, -1)

    def _compute(self, name: str, flags: list[str], operands: list[str]) -> Callable[..., None]:
        to, *sources = operands
        kinds = [np.dtype(TYPES[flag]) for flag in flags if flag in TYPES]
        if name in ("mov", "cvta"):
            return self._move(to, sources[0], kinds[0])
        act: Callable[..., Any]
        if name == "setp":
            act, reads = COMPARISONS[flags[0]], [kinds[0]] * 2
            if kinds[0].kind != "f" and flags[0] == "ne":
                act = operator.ne
        elif name == "selp":
            reads = [kinds[0], kinds[0], np.dtype(np.bool_)]

            def act(a: Any, b: Any, holds: Any) -> Any:
                return np.where(holds, a, b)
        elif name == "cvt":
            reads = [kinds[1]]

            def act(a: Any) -> Any:
                return _converted(a, kinds[0], flags)
        elif "wide" in flags:
            reads, wide = [kinds[0]] * 2, np.dtype(f"{kinds[0].kind}{2 * kinds[0].itemsize}")

            def act(a: Any, b: Any) -> Any:
                return a.astype(wide) * b.astype(wide)
        elif name in ("shl", "shr"):
            act, reads = ARITHMETIC[name], [kinds[0], np.dtype("u4")]
        elif name == "bfi":
            act, reads = ARITHMETIC[name], [kinds[0], kinds[0], np.dtype("u4"), np.dtype("u4")]
        else:
            directed = [flag for flag in flags if flag in ("rm", "rp", "rz", "hi")]
            act = ARITHMETIC[".".join([name, *directed])]
            reads = [kinds[0]] * len(sources)
        readers = [self._read(*pair) for pair in zip(sources, reads, strict=True)]
        return lambda lanes: self._write(to, lanes, act(*(read(lanes) for read in readers)))

    def _move(self, to: str, source: str, kind: np.dtype) -> Callable[..., None]:
        if to[0] != "{" and source[0] != "{":
            read = self._read(source, kind)
            return lambda lanes: self._write(to, lanes, read(lanes))
        parts = re.findall(r"[^{},\s]+", to if to[0] == "{" else source)
        small = np.dtype(f"u{kind.itemsize // len(parts)}")
        if to[0] == "{":
            read = self._read(source, kind)

            def unpack(lanes: np.ndarray) -> None:
                pieces = np.ascontiguousarray(read(lanes)).view(small).reshape(-1, len(parts))
                for part, piece in zip(parts, pieces.T, strict=True):
                    self._write(part, lanes, np.ascontiguousarray(piece))

            return unpack
        reads = [self._read(part, small) for part in parts]

        def pack(lanes: np.ndarray) -> None:
            pieces = np.stack([read(lanes) for read in reads], axis=-1)
            self._write(to, lanes, np.ascontiguousarray(pieces).view(kind)[:, 0])

        return pack

    def _address(self, operand: str) -> tuple[str, int, Callable[[np.ndarray], np.ndarray]]:
        base, _, offset = operand.strip("[]").partition("+")
        shift = int(offset or 0)
        if base in self.parameters or base.isdigit():
            return base, shift, lambda lanes: np.full(lanes.shape, shift)
        kind = np.dtype("u4") if self.values[base].dtype.itemsize == 4 else np.dtype("u8")
        read = self._read(base, kind)
        return base, shift, lambda lanes: (read(lanes).astype("i8") + shift).astype("u8")

    def _cells(self, flags: list[str], addresses: np.ndarray, dtype: np.dtype) -> tuple[Any, Any]:
        """Return the memory as numbers of a type, and the indices of the addresses in it."""
        if (addresses % np.uint64(dtype.itemsize)).any():
            raise OutOfBounds("an address is not a multiple of its number's size")
        size = np.uint64(dtype.itemsize)
        if "shared" in flags:
            return self.shared.view(dtype), addresses // size
        if self.arrays is not None:
            self.arrays.check(addresses, dtype.itemsize)
        return _all_memory(dtype), (addresses - np.uint64(_ORIGIN)) // size

    def _load(self, flags: list[str], operands: list[str]) -> Callable[[np.ndarray], None]:
        names = re.findall(r"[^{},\s]+", operands[0])
        dtype = np.dtype(TYPES[flags[-1]])
        base, shift, addresses = self._address(operands[1])
        if "param" in flags:
            numbers = np.frombuffer(self.parameters[base], dtype, len(names), shift)

            def take(lanes: np.ndarray) -> None:
                for name, number in zip(names, numbers, strict=True):
                    self._write(name, lanes, np.full(lanes.shape, number))

            return take

        def load(lanes: np.ndarray) -> None:
            places = addresses(lanes)
            for i, name in enumerate(names):
                cells, at = self._cells(flags, places + np.uint64(i * dtype.itemsize), dtype)
                self._write(name, lanes, cells[at])

        return load

    def _store(self, flags: list[str], operands: list[str]) -> Callable[[np.ndarray], None]:
        dtype = np.dtype(TYPES[flags[-1]])
        _, _, addresses = self._address(operands[0])
        reads = [self._read(name, dtype) for name in re.findall(r"[^{},\s]+", operands[1])]

        def store(lanes: np.ndarray) -> None:
            places = addresses(lanes)
            for i, read in enumerate(reads):
                cells, at = self._cells(flags, places + np.uint64(i * dtype.itemsize), dtype)
                value = np.ascontiguousarray(read(lanes))
                cells[at] = value
                if (cells[at].tobytes() != value.tobytes()) and "shared" not in flags:
                    raise DataRace(f"{self.program.name}: different numbers at one place")

        return store

    def _atomic(self, flags: list[str], operands: list[str]) -> Callable[[np.ndarray], None]:
        """Do what must not be torn apart, lane after lane in a random order."""
        to, where, source = operands
        dtype = np.dtype(TYPES[flags[-1]])
        act = TOGETHER[flags[-2]]
        _, _, addresses = self._address(where)
        read = self._read(source, dtype)
        is_read = self.program.mentions[to] > 1

        def atomic(lanes: np.ndarray) -> None:
            lanes = self.random.permutation(lanes)
            cells, at = self._cells(flags, addresses(lanes), dtype)
            value = read(lanes)
            if not is_read:
                places, place = np.unique(at, return_inverse=True)
                sums = cells[places]
                act.at(sums, place, value)
                cells[places] = sums
                return
            before = np.zeros(lanes.shape, dtype)
            for i in range(len(lanes)):
                before[i] = cells[at[i]]
                cells[at[i]] = act(before[i], value[i])
            self._write(to, lanes, before)

        return atomic


@functools.cache
def programs(module: Any, folder: Path) -> dict[str, Program]:
    """Compile a Warp module for an NVIDIA GPU, and take its kernels apart."""
    (path,) = wp.compile_aot_module(module, arch=ARCHITECTURE, module_dir=folder, use_ptx=True)
    text = path.read_text(errors="replace")
    found = re.finditer(r"\.visible \.entry (\w+)\((.*?)\)[^{]*\{(.*?)^\}", text, re.S | re.M)
    return {name: Program(name, *rest) for name, *rest in (match.groups() for match in found)}


def _extents(value: Any) -> Iterator[tuple[int, int]]:
    """Yield the memory of an array, or of the arrays of a structure."""
    fields = [name for name, *_ in getattr(value, "_fields_", [])]
    if "strides" in fields:
        shape, strides = value.shape[: value.ndim], value.strides[: value.ndim]
        if all(shape):
            reach = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
            yield value.data, value.data + reach + strides[-1]
    else:
        for name in fields:
            yield from _extents(getattr(value, name))


def _packed(value: Any, kind: Any) -> Any:
    """Return a parameter as the ctypes value that the kernel gets."""
    if isinstance(value, ctypes.Structure | ctypes.Array):
        return value
    if hasattr(value, "__ctype__"):
        return value.__ctype__()
    return kind._type_(value) if kind is not bool else ctypes.c_int8(value)


@contextlib.contextmanager
def emulated(folder: Path) -> Iterator[collections.Counter[str]]:
    """Let all launches be those of a GPU, carried out here; count them by the kernel's name."""
    count: collections.Counter[str] = collections.Counter()

    def launch(kernel: Any, device: torch.device, items: int, arguments: list[Any]) -> None:
        if items == 0:
            return
        every = programs(kernel.module, folder)
        program = every[f"{kernel.get_mangled_name()}_cuda_kernel_forward"]
        kinds = [argument.type for argument in kernel.adj.args]
        packed = [_packed(*pair) for pair in zip(arguments, kinds, strict=True)]
        arrays = [extent for value in packed for extent in _extents(value)]
        has_handle = any(kind is wp.uint64 for kind in kinds)
        parameters = [bytes(value) for value in [launch_bounds_t(items), *packed]]
        Launch(program, parameters, items, None if has_handle else arrays).run()
        count[kernel.key] += 1

    before = warp_setup._launch
    warp_setup._launch = launch
    try:
        yield count
    finally:
        warp_setup._launch = before
