"""Claims about batches being carried out, with workers that count instead of training."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fake_worker
import pytest

from dreamlab.core.errors import ExitCode, InputError
from dreamlab.core.run_folder import RunFolder, write_json
from dreamlab.jobs import state
from dreamlab.jobs.batch import run as batch_run
from dreamlab.jobs.batch.estimate import UNKNOWN, estimate_all
from dreamlab.jobs.batch.plan import make_plan
from dreamlab.jobs.batch.results import PLACE, TEMPLATE, exit_code
from dreamlab.jobs.batch.rows import Row, make_row
from dreamlab.jobs.batch.run import carry_out
from dreamlab.jobs.queue import supervisor
from dreamlab.jobs.queue.index import Index
from dreamlab.training.stop import StopFlag

FAKE_WORKER = (sys.executable, fake_worker.__file__)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.02)
    monkeypatch.setenv("FAKE_STEPS", "2")


def rows_of(*prompts: str, **fields) -> list[Row]:
    return [make_row({"prompt": prompt, **fields}, f"line {i}") for i, prompt in enumerate(prompts)]


def run(rows: list[Row], folder: Path, **options) -> list[dict]:
    stop = options.pop("stop", None) or StopFlag()
    options = {"title": "balls", "command": FAKE_WORKER, "stop": stop} | options
    return carry_out(make_plan(rows), folder, ["cpu", "cpu"], **options).gather()


def embedded(folder: Path) -> dict:
    """What the contact sheet shows."""
    before, after = TEMPLATE.read_text().split(PLACE)
    page = (folder / "index.html").read_text()
    assert page.startswith(before) and page.endswith(after)
    return json.loads(page[len(before) : -len(after)])


def test_a_poisoned_row_fails_alone_with_its_reason(tmp_path):
    rows = [
        *rows_of("a ball", "a cube", "  ", "x" * 2000),
        Row("line 9", "bad", settings={"a.b": "1"}),
    ]
    results = run(rows, tmp_path)
    assert [result["state"] for result in results] == ["done", "done", "failed", "failed", "failed"]
    assert "empty" in results[2]["reason"] and "line 2" in results[2]["reason"]
    assert "2000 characters" in results[3]["reason"]
    assert "'a'" in results[4]["reason"] and "line 9" in results[4]["reason"]
    assert exit_code(results) == ExitCode.ROWS_FAILED
    assert [json.loads(line) for line in (tmp_path / "results.jsonl").open()] == results
    table = list(csv.DictReader((tmp_path / "results.csv").open(newline="")))
    assert [row["state"] for row in table] == [result["state"] for result in results]
    assert table[4]["set.a.b"] == "1"


def test_a_batch_run_again_skips_what_is_done_and_tries_what_failed(tmp_path, monkeypatch):
    rows = rows_of("a ball", "a cube")
    with monkeypatch.context() as patch:
        patch.setenv("FAKE_END", "2")
        first = run(rows, tmp_path)
    assert [result["state"] for result in first] == ["failed", "failed"]
    begun: list[int] = []
    listen = lambda event: begun.append(event.values["row"]) if event.kind == "begin" else None  # noqa: E731
    run(rows, tmp_path, on_event=listen)
    assert sorted(begun) == [1, 2]
    traces = [path.read_text() for path in tmp_path.glob("*/trace.txt")]
    more = [*rows_of("a cone"), *reversed(rows)]
    results = run(more, tmp_path, on_event=listen)
    assert sorted(begun) == [1, 1, 2], "only the new row, which now is the first"
    assert [result["state"] for result in results] == ["done"] * 3
    assert set(traces) <= {path.read_text() for path in tmp_path.glob("*/trace.txt")}


def test_rows_have_names_that_follow_from_their_settings_alone():
    ball = rows_of("a ball")[0]
    others = [replace(ball, seed=1), replace(ball, prompt="a cube"), replace(ball, quality="draft")]
    others.append(replace(ball, settings={"export.max_faces": "777"}))
    plan = make_plan([ball, *others, replace(ball, where="elsewhere"), ball])
    assert plan.repeated == [(6, 1), (7, 1)] and len({row.name for row in plan.rows}) == 5
    assert make_plan([others[0], ball]).rows[1].name == plan.rows[0].name
    assert make_plan([ball], ["export.max_faces=777"]).rows[0].name == plan.rows[4].name


def test_a_batch_of_which_no_row_can_run_is_refused_with_the_reason():
    with pytest.raises(InputError, match=r"line 0.*'mushrom'"):
        make_plan(rows_of("a ball", "a cube", recipe="mushrom"))


@pytest.mark.slow
def test_rows_with_a_higher_priority_begin_first(tmp_path):
    rows = [replace(row, priority=i) for i, row in enumerate(rows_of("a", "b", "c"))]
    begun: list[int] = []
    run(
        rows, tmp_path, on_event=lambda e: begun.append(e.values["row"]) if e.kind == "begin" else 0
    )
    assert begun == [3, 2, 1]


def test_only_one_process_carries_out_a_batch(tmp_path):
    def again(event) -> None:
        if event.kind == "begin":
            with pytest.raises(InputError, match="another process"):
                run(rows_of("a ball"), tmp_path)

    run(rows_of("a ball"), tmp_path, on_event=again)


@pytest.mark.slow
def test_a_batch_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    """Ctrl-C on the real loop in a process of its own, then the same again."""
    code = (
        "import sys; from pathlib import Path\n"
        "from dreamlab.jobs.batch.plan import make_plan\n"
        "from dreamlab.jobs.batch.rows import make_row\n"
        "from dreamlab.jobs.batch.run import carry_out\n"
        "from dreamlab.training.stop import StopFlag, stop_on_signals\n"
        "rows = [make_row({'prompt': p}, p) for p in ('a ball', 'a cube')]\n"
        "with stop_on_signals(StopFlag()) as stop:\n"
        "    carry_out(make_plan(rows), Path(sys.argv[1]), ['cpu'], title='', stop=stop,\n"
        "              command=sys.argv[2:])\n"
    )
    environment = {**os.environ, "FAKE_STEPS": "100000"}
    command = [sys.executable, "-c", code, str(tmp_path), *FAKE_WORKER]
    with subprocess.Popen(command, env=environment) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("*/checkpoints/last.safetensors")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    runs = [RunFolder(path.parent) for path in tmp_path.glob("*/job.json")]
    assert {state.read(folder).state for folder in runs} == {"queued"}
    assert {row["state"] for row in embedded(tmp_path)["rows"]} == {"queued"}
    (trace,) = tmp_path.glob("*/trace.txt")
    made = len(trace.read_text().splitlines())
    monkeypatch.setenv("FAKE_STEPS", str(made + 1))
    results = run(rows_of("a ball", "a cube"), tmp_path)
    assert exit_code(results) == ExitCode.DONE
    steps = [int(line.split()[1]) for line in trace.read_text().splitlines()]
    assert steps == list(range(1, made + 2)), "no step twice, none left out"


def test_looks_at_all_runs_do_not_grow_with_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 60.0)  # places are filled at ends of rows alone
    monkeypatch.setattr(batch_run, "RESULT_SECONDS", 60.0)
    monkeypatch.setenv("PYTHONPATH", str(Path(fake_worker.__file__).parent), prepend=os.pathsep)
    looks = 0
    refresh = Index.refresh

    def counted(index: Index) -> None:
        nonlocal looks
        looks += 1
        refresh(index)

    monkeypatch.setattr(Index, "refresh", counted)
    numbers: list[int] = []
    for rows in (1, 6):
        looks = 0
        balls = rows_of(*[f"ball {i}" for i in range(rows)])
        results = run(balls, tmp_path / str(rows), command=(sys.executable, "-m", "fake_worker"))
        assert [result["state"] for result in results] == ["done"] * rows
        numbers.append(looks)
    assert numbers[0] == numbers[1]


def test_the_contact_sheet_needs_nothing_but_the_files_of_the_batch(tmp_path):
    evil = 'a </script><script>alert("1")</script> <!-- & ball'
    run(rows_of(evil, "a cube"), tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "http://" not in page and "https://" not in page and "@import" not in page
    assert page.count("</script>") == 2, "a prompt cannot end the block of data"
    shown = embedded(tmp_path)["rows"]
    assert shown[0]["prompt"] == evil and shown[0]["state"] == "done"
    for row in shown:
        assert (tmp_path / row["glb"]).is_file() and not Path(row["glb"]).is_absolute()


def report(rate: float, outside: float, memory: float) -> dict:
    return {
        "complete": True,
        "seconds": {"load prior": outside, "gaussians": 9.0, "mesh": 9.0, "total": 99.0},
        "stages": {
            name: {"steps": 10, "steps_per_second": rate, "metrics": {"loss": 0.5}}
            for name in ("gaussians", "mesh")
        },
        "memory": {"rss_gb": memory},
        "export": {"faces": 100, "valid": True, "silhouette_iou": 0.9},
    }


def test_estimates_come_from_finished_rows_then_from_the_recipe_and_say_so(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("description: mine\ncost: {}\nextends: toybox\n")
    rows = [*rows_of("a ball", quality="standard"), *rows_of("a cube", recipe=str(own))]
    plan = make_plan(rows, ["stages.gaussians.steps=100", "stages.mesh.steps=20"])
    first, second = estimate_all(plan.rows, [tmp_path])
    assert first.seconds == 90 and first.memory_gb == 1.3 and "recipe" in first.source
    assert second == UNKNOWN
    results = run(rows, tmp_path)
    for result, content in zip(
        results, [report(2.0, 5.0, 1.5), report(4.0, 1.0, 1.0)], strict=True
    ):
        write_json(tmp_path / result["run"] / "report.json", content)
    first, second = estimate_all(plan.rows, [tmp_path])
    assert (first.seconds, first.memory_gb) == (100 / 2 + 20 / 2 + 5, 1.5)
    assert (second.seconds, second.memory_gb) == (100 / 4 + 20 / 4 + 1, 1.0)
    assert "1 finished run" in first.source
    boxes = make_plan(rows_of("a ball on a cube", "a cone"), ["stages.gaussians.steps=100"]).rows
    one, several = [estimate_all([row], [tmp_path])[0].source for row in reversed(boxes)]
    assert "finished" in one and "recipe" in several, "those runs had no boxes"
    path = tmp_path / results[0]["run"] / "report.json"
    write_json(path, report(1.0, 5.0, 1.5) | {"boxes": 2})
    one, several = [estimate_all([row], [tmp_path])[0].source for row in reversed(boxes)]
    assert "recipe" in one and "1 finished run" in several
    told = run(rows, tmp_path, metrics=True)[0]
    assert (told["faces"], told["memory_gb"], told["seconds"]) == (100, 1.5, 99.0)
    assert told["metric.mesh.loss"] == 0.5


def test_a_row_whose_record_is_damaged_harms_no_other(tmp_path):
    rows = rows_of("a ball", "a cube")
    first, _ = run(rows, tmp_path)
    RunFolder(tmp_path / first["run"]).job.write_text("{")
    results = run([*rows, *rows_of("a cone")], tmp_path)
    assert [result["state"] for result in results] == ["failed", "done", "done"]
    assert "cannot be read" in results[0]["reason"]
