"""Claims about `dreamlab jobs`, `work` and `batch` as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path

import fake_worker
import pytest
from typer.testing import CliRunner

from dreamlab.cli.main import app
from dreamlab.core.run_folder import RunFolder, write_text
from dreamlab.jobs import state
from dreamlab.jobs.batch import run as batch_run
from dreamlab.jobs.queue import supervisor
from dreamlab.jobs.state import Job

FAKE_WORKER = (sys.executable, fake_worker.__file__)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str, code: int = 0) -> list[dict]:
    """Run a command with --json; return what it wrote."""
    result = CliRunner().invoke(app, [*arguments, "--json", "--quiet"], catch_exceptions=False)
    assert result.exit_code == code, (result.stdout, result.stderr)
    return [json.loads(line) for line in result.stdout.splitlines()]


def new_run(prompt: str, **fields) -> str:
    folder = RunFolder.create(Path("runs"), prompt, 0)
    write_text(folder.config, f"prompt: {prompt}\nseed: 0\nrecipe: toybox\nquality: draft\n")
    state.create(folder, Job(prompt=prompt, is_queued=True, **fields))
    return str(folder.root)


def state_of(run: str) -> str:
    return state.read(RunFolder(Path(run))).state


def test_runs_are_listed_by_words_and_state_page_by_page():
    for i in range(3):
        new_run(f"ball {i}", state="done" if i else "queued")
    *runs, last = call("jobs", "list", "ball", "--state", "done", "--limit", "1")
    assert len(runs) == 1 and last["total"] == 2
    assert call("jobs", "list", "cube") == [{"kind": "result", "total": 0, "page": 1}]
    (error,) = call("jobs", "list", "--state", "runing", code=2)
    assert "running" in error["fix"]


def test_a_queued_run_is_paused_resumed_moved_kept_cancelled_copied_and_deleted():
    run = new_run("a ball")
    for verb, end in [("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")]:
        (result,) = call("jobs", verb, run)
        assert result["state"] == state_of(run) == end
    call("jobs", "priority", run, "-p", "4")
    assert state.read(RunFolder(Path(run))).priority == 4
    call("jobs", "keep", run)
    assert call("jobs", "list", "--favourites")[0]["root"] == run
    (copy,) = call("jobs", "duplicate", run)
    assert state_of(copy["folder"]) == "queued"
    call("jobs", "delete", run)
    assert not Path(run).exists()


def test_a_wrong_folder_and_a_meaningless_request_are_told_in_two_lines():
    (error,) = call("jobs", "stop", "nowhere", code=2)
    assert "not a run folder" in error["message"]
    (error,) = call("jobs", "pause", new_run("a ball", state="done"), code=2)
    assert "done" in error["message"]


def test_work_carries_out_the_queue_and_ends_when_told_to(monkeypatch):
    monkeypatch.setenv("FAKE_STEPS", "1")
    plain = supervisor.Supervisor
    make = lambda *given, **options: plain(*given, **options, command=FAKE_WORKER)  # noqa: E731
    monkeypatch.setattr(supervisor, "Supervisor", make)
    run = new_run("a ball")
    kinds = [event["kind"] for event in call("work", "--until-idle", "--device", "cpu")]
    assert kinds == ["work", "begin", "end"] and state_of(run) == "done"


def test_a_batch_ends_with_the_exit_status_of_its_rows(monkeypatch):
    monkeypatch.setenv("FAKE_STEPS", "1")
    carry_out = batch_run.carry_out
    with_fake = lambda *given, **options: carry_out(*given, **options, command=FAKE_WORKER)  # noqa: E731
    monkeypatch.setattr(batch_run, "carry_out", with_fake)
    Path("balls.csv").write_text("prompt,seed\na red ball,1\na cube,x\n")
    arguments = ("batch", "balls.csv", "--device", "cpu", "--quality", "draft")
    *_, rehearsed = events = call(*arguments, "--dry-run", code=6)
    assert rehearsed["rows"] == 2 and rehearsed["left"] == 1 and not Path("runs").exists()
    assert [event["state"] for event in events if event["kind"] == "row"] == ["queued", "failed"]
    *_, result = events = call(*arguments, code=6)
    assert result["states"] == {"done": 1, "failed": 1}
    said = [event["message"] for event in events if event["kind"] == "warning"]
    assert len(said) == 1 and said[0].startswith("row 2 failed")
    assert all(Path(path).is_file() for path in result["files"])
    Path("balls.csv").write_text("prompt,seed\na red ball,1\n")
    assert "no CLIP model" in call(*arguments, "--score", "nowhere", code=3)[0]["message"]
    *_, result = events = call(*arguments, "--score", "judge")
    (said,) = [event["message"] for event in events if event["kind"] == "warning"]
    assert said.startswith("no scores: a-red-ball"), "the worker of this test exports no GLB"
    assert not [event for event in events if event["kind"] == "begin"], "it is done"


def test_a_batch_without_a_file_and_a_file_that_is_none_are_told():
    assert "no file" in call("batch", code=2)[0]["message"]
    assert "cannot read" in call("batch", "none.txt", code=2)[0]["message"]


def test_a_cluster_is_asked_for_as_a_whole_and_needs_its_package(monkeypatch):
    Path("balls.txt").write_text("a ball\n")
    batch = ("batch", "balls.txt", "--quality", "draft")
    assert "which one with --ray" in call(*batch, "--ray-gpus", "1", code=2)[0]["fix"]
    assert "--ray-gpus 1" in call(*batch, "--ray", "auto", "--device", "cuda", code=2)[0]["fix"]
    (error,) = call(*batch, "--ray", "auto", "--ray-cpus", "0", "--ray-gpus", "0", code=2)
    assert "above 0" in error["fix"]
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    (error,) = call(*batch, "--ray", "auto", code=3)
    assert ".[cluster]" in error["fix"] and not Path("runs").exists()


def test_a_misspelt_key_is_refused_before_torch_is_loaded(place):
    Path("a.csv").write_text("promt\na\n")
    code = (
        "import sys; from typer.testing import CliRunner; from dreamlab.cli.main import app\n"
        "for line in (['batch', 'a.csv'], ['jobs', 'list'], ['batch', '--schema']):\n"
        "    CliRunner().invoke(app, line)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
