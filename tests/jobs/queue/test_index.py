"""Claims about the table of runs: it repeats the folders, and can always be made anew."""

import os
import sqlite3
import subprocess
import sys
import time

import pytest

from dreamlab.core.errors import InputError
from dreamlab.jobs import state
from dreamlab.jobs.queue import actions
from dreamlab.jobs.queue.index import NAME, Index


@pytest.fixture
def index(tmp_path):
    (tmp_path / "runs").mkdir()
    return Index(tmp_path / "runs")


def prompts(page) -> list[str]:
    return [entry.prompt for entry in page.entries]


def test_runs_are_found_by_words_state_and_mark_page_by_page(index, new_run):
    made = [new_run(f"a {color} ball", seed=i) for i, color in enumerate(["red", "blue", "red"])]
    with state.held(made[0]):
        state.begin(made[0])
        state.finish(made[0], "done")
    actions.set_favourite(made[1], True)
    assert index.search("RED ball").total == 2
    assert prompts(index.search(states=("done",))) == ["a red ball"]
    assert prompts(index.search(only_favourites=True)) == ["a blue ball"]
    assert index.search("100%_").total == 0, "what SQL takes for a wildcard is a letter"
    pages = [index.search(order="oldest", offset=i, limit=2) for i in (0, 2)]
    assert [page.total for page in pages] == [3, 3]
    assert [entry.seed for page in pages for entry in page.entries] == [0, 1, 2]
    assert index.count() == {"queued": 2, "done": 1}


def test_the_table_follows_runs_that_change_appear_and_go(index, new_run):
    run = new_run()
    assert index.search().entries[0].state == "queued"
    actions.request(run, "cancel")
    assert index.search().entries[0].state == "cancelled"
    new_run("another")
    assert index.search().total == 2
    actions.delete(run)
    assert prompts(index.search()) == ["another"]


def test_a_run_whose_process_dies_is_seen_though_no_file_changes(index, new_run):
    run = new_run()
    with state.held(run):
        state.begin(run, is_queued=True)
        entry = index.search().entries[0]
        assert (entry.state, entry.is_orphan) == ("running", False)
    entry = index.search().entries[0]
    assert (entry.state, entry.is_orphan) == ("failed", True)


@pytest.mark.parametrize("damage", ["missing", "noise", "empty", "other version"])
def test_the_table_is_made_anew_from_the_folders(index, new_run, damage):
    new_run()
    assert index.search().total == 1
    path = index.parent / NAME
    if damage == "missing":
        path.unlink()
    elif damage == "other version":
        with sqlite3.connect(path) as table:
            table.execute("PRAGMA user_version = 99")
        table.close()
    else:
        for file in index.parent.glob(f"{NAME}*"):
            file.write_bytes(os.urandom(8192) if damage == "noise" else b"")
    assert index.search().total == 1


def test_a_run_of_an_earlier_version_shows_what_its_configuration_says(index, new_run):
    run = new_run("an old ball", seed=7)
    run.job.write_text('{"state": "done"}')
    entry = index.search("old").entries[0]
    assert (entry.prompt, entry.seed, entry.recipe, entry.state) == (
        "an old ball",
        7,
        "toybox",
        "done",
    )


def test_a_damaged_record_is_shown_with_its_reason_and_hides_no_other_run(index, new_run):
    bad = new_run()
    new_run("a good ball")
    bad.job.write_text("{")
    states = {entry.prompt: entry.state for entry in index.search().entries}
    assert states["a good ball"] == "queued" and "failed" in states.values()


def test_other_folders_are_no_runs(index):
    (index.parent / "notes").mkdir()
    (index.parent / "file.txt").touch()
    assert index.search().total == 0


def test_wrong_words_are_refused_with_the_nearest_one(index):
    with pytest.raises(InputError, match="runing") as caught:
        index.search(states=("runing",))
    assert "running" in caught.value.fix
    with pytest.raises(InputError, match="newst"):
        index.search(order="newst")


@pytest.mark.slow
def test_several_processes_may_refresh_and_read_at_once(index, new_run):
    for i in range(20):
        new_run(f"ball {i}")
    code = (
        "import sys; from pathlib import Path; from dreamlab.jobs.queue.index import Index\n"
        "assert all(Index(Path(sys.argv[1])).search().total == 20 for _ in range(20))"
    )
    command = [sys.executable, "-c", code, str(index.parent)]
    readers = [subprocess.Popen(command) for _ in range(3)]
    assert [reader.wait(60) for reader in readers] == [0, 0, 0]


@pytest.mark.slow
def test_ten_thousand_runs_are_indexed_once_and_then_looked_at_quickly(index, new_run):
    for i in range(10_000):
        new_run(f"ball {i}")
    having = sum("77" in str(i) for i in range(10_000))
    begin = time.process_time()
    assert index.search("ball 77").total == having
    first = time.process_time() - begin
    begin = time.process_time()
    assert index.search("ball 77", limit=10).total == having
    again = time.process_time() - begin
    print(f"per run: {first / 10:.3f} ms at first, {again / 10:.4f} ms again")  # noqa: T201
    assert first < 20.0 and again < 2.0


def test_a_record_replaced_within_a_tick_of_the_clock_is_read_again(index, new_run):
    """Times of files stand still for some milliseconds; another file is another inode."""
    run = new_run()
    before = run.job.stat().st_mtime_ns
    assert index.search().entries[0].state == "queued"
    actions.request(run, "cancel")
    os.utime(run.job, ns=(before, before))
    assert index.search().entries[0].state == "cancelled"
