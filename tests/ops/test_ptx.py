"""The machine that stands in for a GPU: what it computes, and what it does not let pass."""

import importlib
import pkgutil

import ptx
import pytest
import torch
import warp as wp
from warp._src.context import user_modules

import dreamlab.ops
from dreamlab.ops.warp_setup import launch_scatter, launch_split


@wp.kernel(enable_backward=False)
def arithmetic_kernel(
    start: wp.int32,
    x: wp.array(dtype=wp.float32),
    floats: wp.array(dtype=wp.float32, ndim=2),
    integers: wp.array(dtype=wp.int32, ndim=2),
):
    i = start + wp.tid()
    a = x[i]
    floats[i, 0] = wp.exp(a)
    floats[i, 1] = wp.log(wp.abs(a))
    floats[i, 2] = wp.tanh(a)
    floats[i, 3] = wp.pow(wp.abs(a), 1.7)
    floats[i, 4] = wp.sqrt(wp.abs(a)) / (a - 0.3)
    floats[i, 5] = wp.clamp(wp.floor(a) - wp.ceil(3.0 * a), -4.0, 5.0)
    floats[i, 6] = wp.acos(wp.clamp(0.1 * a, -1.0, 1.0))
    integers[i, 0] = wp.int32(a * 10.0)
    integers[i, 1] = (i * 7919 - 100000) / 13
    integers[i, 2] = (i * 7919 - 100000) % 13
    integers[i, 3] = ((i << 20) >> 3) ^ (i & 0x55)


@wp.kernel(enable_backward=False)
def steps_kernel(start: wp.int32, steps: wp.array(dtype=wp.int32)):
    """Count Collatz's steps: each thread takes another number of turns."""
    i = start + wp.tid()
    n = i + 1
    count = wp.int32(0)
    while n != 1:
        if n % 2 == 0:
            n = n / 2
        else:
            n = 3 * n + 1
        count += 1
    steps[i] = count


@wp.kernel(enable_backward=False)
def rank_kernel(start: wp.int32, counter: wp.array(dtype=wp.int32), rank: wp.array(dtype=wp.int32)):
    rank[start + wp.tid()] = wp.atomic_add(counter, 0, 1)


@wp.kernel(enable_backward=False)
def sum_kernel(start: wp.int32, total: wp.array(dtype=wp.float32)):
    wp.atomic_add(total, (start + wp.tid()) % 3, 0.5)


@wp.kernel(enable_backward=False)
def careless_kernel(start: wp.int32, counter: wp.array(dtype=wp.int32)):
    before = counter[0]
    counter[0] = before + 1


@wp.kernel(enable_backward=False)
def racing_kernel(start: wp.int32, place: wp.array(dtype=wp.int32)):
    place[0] = start + wp.tid()


@wp.kernel(enable_backward=False)
def beyond_kernel(start: wp.int32, values: wp.array(dtype=wp.float32), shift: wp.int32):
    values[start + wp.tid() + shift] = 1.0


@pytest.mark.ptx
def test_arithmetic_is_that_of_the_formulas():
    x = torch.linspace(-9.7, 9.6, 700)
    floats, integers = torch.zeros(700, 7), torch.zeros(700, 4, dtype=torch.int32)
    launch_split(arithmetic_kernel, 700, [x, floats, integers], "cpu")
    a, i = x.double(), torch.arange(700)
    expected = [
        a.exp(),
        a.abs().log(),
        a.tanh(),
        a.abs() ** 1.7,
        a.abs().sqrt() / (a - 0.3),
        (a.floor() - (3 * x).ceil()).clamp(-4, 5),
        (0.1 * a).clamp(-1, 1).acos(),
    ]
    wanted = torch.stack(expected, dim=1)
    torch.testing.assert_close(floats.double(), wanted, rtol=2e-5, atol=2e-6)
    number = i * 7919 - 100000
    quotient = torch.div(number, 13, rounding_mode="trunc")
    shifted = ((i << 20).int() >> 3) ^ (i & 0x55).int()
    assert torch.equal(integers[:, 0].long(), (x * 10).trunc().long())
    assert torch.equal(integers[:, 1].long(), quotient)
    assert torch.equal(integers[:, 2].long(), number - 13 * quotient)
    assert torch.equal(integers[:, 3], shifted)


@pytest.mark.ptx
def test_threads_may_take_different_ways():
    steps = torch.zeros(400, dtype=torch.int32)
    launch_split(steps_kernel, 400, [steps], "cpu")

    def count(n):
        return 0 if n == 1 else 1 + count(n // 2 if n % 2 == 0 else 3 * n + 1)

    assert steps.tolist() == [count(n + 1) for n in range(400)]


@pytest.mark.ptx
def test_atomic_additions_lose_nothing_and_come_in_any_order():
    counter, rank = torch.zeros(1, dtype=torch.int32), torch.zeros(500, dtype=torch.int32)
    launch_split(rank_kernel, 500, [counter, rank], "cpu")
    assert counter.item() == 500
    assert sorted(rank.tolist()) == list(range(500)) != rank.tolist()
    assert launch_scatter(sum_kernel, 600, [], (3,), "cpu").tolist() == [100.0] * 3


@pytest.mark.ptx
def test_an_addition_that_is_not_atomic_is_lost():
    counter = torch.zeros(1, dtype=torch.int32)
    launch_split(careless_kernel, 500, [counter], "cpu")
    assert counter.item() == 1


@pytest.mark.ptx
def test_a_race_is_named():
    launch_split(racing_kernel, 1, [torch.zeros(1, dtype=torch.int32)], "cpu")
    with pytest.raises(ptx.DataRace, match="racing_kernel"):
        launch_split(racing_kernel, 300, [torch.zeros(1, dtype=torch.int32)], "cpu")


@pytest.mark.ptx
def test_what_lies_outside_of_all_arrays_is_not_touched():
    values = torch.zeros(302)
    launch_split(beyond_kernel, 300, [values[1:301], 0], "cpu")
    assert values[1:301].eq(1).all()
    with pytest.raises(ptx.OutOfBounds):
        launch_split(beyond_kernel, 300, [values[1:301], 1], "cpu")
    assert not values[0] and not values[-1]


def test_every_kernel_compiles_for_nvidia_gpus(compiled_kernels):
    for info in pkgutil.walk_packages(dreamlab.ops.__path__, "dreamlab.ops."):
        if info.name.split(".")[-1] not in ("nvdiffrast", "gsplat", "tinycudann"):
            importlib.import_module(info.name)
    found = 0
    for name, module in list(user_modules.items()):
        if name.startswith("dreamlab.ops.") and module.kernels:
            found += len(ptx.programs(module, compiled_kernels))
    assert found >= 26
