"""Claims about `dreamlab serve` as a user meets it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dreamlab
from dreamlab.cli.main import app
from dreamlab.jobs.queue.presence import is_present
from dreamlab.web.client import ClientError

ROOT = Path(dreamlab.__file__).parents[1]
SMALL = {
    "stages.gaussians.steps": 40,
    "stages.mesh.steps": 4,
    "export.unwrap": "box",
    "export.texture_size": 64,
    "export.max_faces": 500,
}


def refused(*arguments: str, tmp_path: Path) -> str:
    """What the command says when it does not start."""
    result = CliRunner().invoke(app, ["serve", str(tmp_path / "runs"), *arguments])
    assert result.exit_code == 2 and not (tmp_path / "runs").exists()
    return result.stderr


def test_a_server_that_others_reach_does_not_start_without_a_secret(tmp_path):
    for arguments in (
        ["--listen"],
        ["--host", "0.0.0.0"],
        ["--host", "10.0.0.1"],
        ["--host", "::"],
    ):
        assert "--token or --auth" in refused(*arguments, tmp_path=tmp_path)
    assert "7 characters" in refused("--listen", "--token", "1234567", tmp_path=tmp_path)
    assert "USER:PASSWORD" in refused("--listen", "--auth", "anna", tmp_path=tmp_path)


def test_an_address_that_is_taken_is_named_before_anything_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refused("--port", port, tmp_path=tmp_path)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def start(runs: Path, port: int) -> tuple[subprocess.Popen, dreamlab.Client]:
    """Start a server and wait until it answers."""
    command = [sys.executable, str(ROOT / "app.py"), str(runs), "--port", str(port), "--quiet"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    client = dreamlab.Client(f"http://127.0.0.1:{port}")
    wait_for(lambda: answers(client))
    return process, client


def answers(client: dreamlab.Client) -> bool:
    try:
        return client.health().name == "dreamlab"
    except ClientError:
        return False


def wait_for(is_true, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_its_runs_alone_and_finds_them_again(tmp_path):
    runs, port = tmp_path / "runs", free_port()
    server, client = start(runs, port)
    name = client.submit("a red ball", quality="draft", settings=SMALL).name
    wait_for(lambda: client.job(name).state == "running")
    server.kill()
    server.wait()
    server, client = start(runs, port)
    kinds = [event.kind for event in client.events(name)]
    job = client.job(name)
    assert (job.state, job.progress) == ("done", 1.0) and kinds[-1] == "end"
    made = client.download(name, tmp_path / "made")
    assert (tmp_path / "made/exports/model.glb") in made
    assert is_present(runs)  # that of the first server; the second one leaves it alone
    server.send_signal(signal.SIGINT)
    assert server.wait(60) == 0 and is_present(runs)
    end_supervisor(runs)


@pytest.mark.slow
def test_ctrl_c_ends_the_supervisor_that_was_started_and_hands_runs_back(tmp_path):
    runs = tmp_path / "runs"
    server, client = start(runs, free_port())
    settings = SMALL | {"stages.gaussians.steps": 5000}
    name = client.submit("a red ball", quality="draft", settings=settings).name
    wait_for(lambda: (client.job(name).step or 0) > 3)
    server.send_signal(signal.SIGTERM)
    assert server.wait(120) == 0
    assert not is_present(runs)
    assert '"state": "queued"' in (runs / name / "job.json").read_text()


def end_supervisor(runs: Path) -> None:
    for item in Path("/proc").iterdir():
        if item.name.isdigit():
            try:
                command = (item / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"work" in command and str(runs).encode() in command:
                os.kill(int(item.name), signal.SIGTERM)
    wait_for(lambda: not is_present(runs))
