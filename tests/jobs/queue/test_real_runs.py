"""Real workers are killed at random times: the runs end, and as if nothing had happened."""

import os
import random
import signal
import time

import pytest
import torch

from dreamlab.jobs import retry, state
from dreamlab.jobs.queue import actions
from dreamlab.jobs.queue.supervisor import Supervisor
from dreamlab.jobs.recipes import load_recipe, load_run_config
from dreamlab.training.loop import load_trained

LIMIT = 900.0
ROUNDS = 4


def trained(folder) -> dict[str, torch.Tensor]:
    config = load_run_config(folder.config)
    return load_trained(
        config.stages,
        prompt=config.prompt,
        negative_prompt=config.negative_prompt,
        seed=config.seed,
        folder=folder,
        device=torch.device("cpu"),
    ).stage.state()


@pytest.mark.slow
def test_a_real_run_that_is_killed_again_and_again_ends_like_one_that_is_not(
    tmp_path, small_settings, monkeypatch
):
    monkeypatch.setattr(retry, "MAX_CRASHES", 10**6)
    monkeypatch.setattr(retry, "PAUSE_SECONDS", 0.1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    chance = random.Random(0)
    config = load_recipe("toybox", "draft", small_settings, prompt="a red mushroom", seed=5)
    killed, quiet = (actions.submit(config, tmp_path, priority=p) for p in (1, 0))
    boss = Supervisor(tmp_path, ["cpu"])
    deadline, rounds = time.monotonic() + LIMIT, 0
    next_kill = time.monotonic() + chance.uniform(1, 4)
    while not boss.is_idle:
        assert time.monotonic() < deadline
        boss.step()
        time.sleep(0.1)
        job = state.read(killed)
        if job.state == "running" and job.pid and rounds < ROUNDS and time.monotonic() > next_kill:
            os.kill(job.pid, signal.SIGKILL)
            next_kill = time.monotonic() + chance.uniform(1, 4)
            rounds += 1
    boss.shut_down()
    assert rounds > 0
    for folder in (killed, quiet):
        assert state.read(folder).state == "done", state.read(folder)
        assert (folder.exports / "model.glb").is_file() and folder.turntable.is_file()
    first, second = trained(killed), trained(quiet)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
