"""Claims about timing: what counts, and that two threads that share work look like two."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from dreamlab.evaluation.speed.figures import (
    WORKER,
    Call,
    Figure,
    Goal,
    cpu_milliseconds,
    medians,
    scaling,
    speedup,
)
from dreamlab.ops.hashgrid.encode import HashGridConfig, HashGridLayout, hash_encode


@pytest.fixture(autouse=True)
def one_thread():
    yield
    torch.set_num_threads(1)


def work(milliseconds: float) -> None:
    """Spend CPU time of this thread."""
    end = time.thread_time() + milliseconds / 1e3
    while time.thread_time() < end:
        pass


def test_waiting_costs_nothing_and_work_costs_what_it_takes():
    assert cpu_milliseconds(lambda: time.sleep(0.05)) < 25
    assert cpu_milliseconds(lambda: work(30)) >= 30


@pytest.mark.parametrize(("milliseconds", "turns"), [(40.0, 3), (20.0, 5), (1.0, 30)])
def test_calls_take_turns_long_enough_and_their_first_is_not_counted(milliseconds, turns):
    order = []

    def stopwatch(call: Call) -> float:
        call()
        return milliseconds

    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    assert medians(calls, 3, stopwatch) == {"a": milliseconds, "b": milliseconds}
    assert "".join(order) == "ab" * (1 + turns)


def test_the_speedup_is_how_many_times_longer_plain_torch_takes():
    figure = speedup("work", lambda: work(5), lambda: work(40), goal=4.0, repeats=3)
    assert 5 < figure.value < 9
    assert figure.is_met


@pytest.mark.parametrize(("sense", "met"), [("≥", True), ("≤", False)])
def test_a_goal_has_a_side(sense, met):
    figure = Figure("", 3.0, "×", Goal(2.0, sense), {})
    assert figure.is_met is met
    assert figure.plain["goal"] == f"{sense} 2 ×"


def test_work_shared_by_two_workers_scales_by_two():
    with ThreadPoolExecutor(2, thread_name_prefix=WORKER) as pool:
        met = threading.Barrier(2)

        def half() -> None:
            met.wait(timeout=30)
            work(30)

        def run() -> None:
            if torch.get_num_threads() == 1:
                work(60)
            else:
                for future in [pool.submit(half) for _ in range(2)]:
                    future.result()

        figure = scaling("work", run, goal=1.6, repeats=5)
    assert 1.7 < figure.value < 2.2
    assert torch.get_num_threads() == 1


def test_kernels_run_on_threads_that_are_known_as_workers():
    layout = HashGridLayout.of(HashGridConfig(num_levels=2, log2_table_size=6))
    table = torch.zeros(layout.num_entries, 2)
    torch.set_num_threads(2)
    hash_encode(torch.rand(20_000, 3), table, layout, backend="warp")  # worth two ranges
    assert any(thread.name.startswith(WORKER) for thread in threading.enumerate())
