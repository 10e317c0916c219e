"""Claims about run folders: atomic, named after the prompt, and never unreadable after a kill."""

import json
import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder, atomic_path, slug, write_json, write_text


@given(st.text(max_size=200))
def test_a_slug_is_a_short_safe_file_name(prompt):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(prompt))
    assert len(slug(prompt)) <= 40


def test_an_atomic_write_replaces_the_old_content_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    write_text(path, "new ∆")
    assert path.read_text(encoding="utf-8") == "new ∆"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_keeps_the_old_content(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_refuses_numbers_that_other_readers_cannot_parse(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_new_run_is_named_by_date_prompt_and_seed_and_never_overwrites_another(tmp_path):
    now = datetime(2026, 1, 2, 3, 4, 5)
    first = RunFolder.create(tmp_path / "runs", "A red Mushroom!", 7, now)
    second = RunFolder.create(tmp_path / "runs", "A red Mushroom!", 7, now)
    assert first.root.name == "20260102-030405-a-red-mushroom-7"
    assert second.root.name == "20260102-030405-a-red-mushroom-7-1"
    assert first.previews.is_dir() and first.checkpoints.is_dir() and first.exports.is_dir()


def test_a_parent_that_cannot_hold_folders_is_refused_with_the_option_to_change(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--output"):
        RunFolder.create(tmp_path / "file", "x", 0)


def test_only_a_folder_with_a_configuration_opens(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder.open(tmp_path)
    (tmp_path / "config.yaml").write_text("a: 1")
    assert RunFolder.open(tmp_path).root == tmp_path


def test_events_are_read_back_in_order(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_events() == []
    for step in range(3):
        folder.append_event("step", step=step, losses={"sds": 0.5})
    assert [event["step"] for event in folder.read_events()] == [0, 1, 2]
    assert all(event["kind"] == "step" and event["time"] > 0 for event in folder.read_events())


@given(st.integers(1, 200), st.integers(1, 5))
def test_an_event_cut_by_a_kill_is_left_out_and_later_ones_are_still_read(
    tmp_path_factory, cut, later
):
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    for step in range(3):
        folder.append_event("step", step=step)
    content = folder.events.read_bytes()
    kept = content[: -min(cut, len(content))]
    folder.events.write_bytes(kept)
    whole = kept.count(b"\n")
    assert [event["step"] for event in folder.read_events()] == list(range(whole))
    for step in range(later):
        folder.append_event("step", step=10 + step)
    events = [event["step"] for event in folder.read_events()]
    assert events[-later:] == [10 + step for step in range(later)]
    assert events[:whole] == list(range(whole))


def test_an_event_is_one_line_of_json(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append_event("log", message="two\nlines")
    (line,) = folder.events.read_text().splitlines()
    assert json.loads(line)["message"] == "two\nlines"
