"""Claims about the measurement of the API under load."""

import asyncio
import random
from functools import partial

import pytest

from dreamlab.web import load as load_module
from dreamlab.web.load import Load, Training, measure


def test_the_slowing_is_told_against_the_speed_before_and_after():
    assert Training(8.0, 6.3, 6.0, 2.0, 1.6).slowing == pytest.approx(0.1)
    load = Load(2, 1, 4.0, [1.0] * 6, [2.0] * 2, server_seconds=0.8, client_seconds=0.4)
    figures = load.summary()
    assert figures["server_cpu_per_request"] == 100.0 and figures["server_cores"] == 0.2
    assert figures["client_cpu_per_request"] == 50.0 and "slowing" not in figures


def test_a_request_that_nobody_answers_is_a_failure(monkeypatch):
    monkeypatch.setattr(load_module, "PERIOD", 0.0)

    async def hang_up(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def ask_once() -> Load:
        load = Load(1, 1, 60.0)
        end = asyncio.get_running_loop().time() + 60.0
        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            make = partial(load_module._Client, ["run"], load, end, random.Random(0))
            port = server.sockets[0].getsockname()[1]
            _, client = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
            await asyncio.wait_for(client.closed, 30.0)
        return load

    load = asyncio.run(ask_once())
    assert load.failures == 1 and load.requests == 0


@pytest.mark.slow
def test_everybody_who_polls_is_answered(tmp_path):
    load = measure(tmp_path, clients=10, runs=5, seconds=5.0)
    assert load.failures == 0 and load.requests > 25
    assert 0 < load.summary()["record_median"] <= load.summary()["record_p95"]
    assert load.server_seconds > 0 and load.client_seconds > 0
