"""Claims about the pieces of the page: pictures, chart, events, changed settings, markup."""

import re
import shlex

import numpy as np
import pytest
from made_up_runs import finished_run, running_run

from dreamlab.core.errors import InputError
from dreamlab.web.pages import markup, splats
from dreamlab.web.pages.changes import command, differences, plain, split_about
from dreamlab.web.pages.chart import HEIGHT, POINTS, loss_chart, memory_chart, smooth
from dreamlab.web.pages.follow import Follower, tail
from dreamlab.web.pages.pictures import cover, newest_preview, newest_sheet, views_of


def test_pictures_of_a_run_are_its_preview_and_in_the_end_its_contact_sheet(tmp_path):
    running, done = running_run(tmp_path), finished_run(tmp_path)
    assert newest_sheet(running) == newest_preview(running) == running.previews / "000005.webp"
    assert newest_sheet(done) == done.preview
    views = views_of(done.preview)
    assert {mode: len(row) for mode, row in views.items()} == dict.fromkeys(views, 8)
    assert cover(done) == views["rgb"][1] and str(cover(done)).startswith("data:image/webp;base64,")


def test_gaussians_are_moved_to_where_the_viewer_looks_and_stay_what_they_are():
    rows = np.array([[1, 2, 3, 7], [3, 6, 3, 8], [2, 3, 9, 9]], dtype="<f4")
    names = "".join(f"property float {name}\n" for name in ("x", "y", "z", "opacity"))
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex 3\n{names}end_header\n".encode()
    moved = splats.centred(head + rows.tobytes())
    assert moved[: len(head)] == head
    found = np.frombuffer(moved[len(head) :], "<f4").reshape(3, 4)
    np.testing.assert_array_equal(found, rows - np.array([2, 4, 6, 0], dtype="<f4"))


def test_a_damaged_picture_is_left_out(tmp_path):
    folder = running_run(tmp_path)
    (folder.previews / "000009.webp").write_bytes(b"cut by a ki")
    assert views_of(newest_preview(folder)) == {} and cover(folder) is None


def test_events_are_read_on_from_where_the_last_look_ended(tmp_path):
    folder, follower = running_run(tmp_path), Follower()
    first = follower.story(folder)
    assert first.steps == {"gaussians": 5} and len(first.losses) == 5 and first.seconds
    with open(folder.events, "a") as file:
        file.write('{"kind": "step", "stage": "gaussians", "st')  # not complete yet
    assert len(follower.story(folder).losses) == 5
    with open(folder.events, "a") as file:
        file.write('ep": 6, "steps": 20, "loss": 1.5}\n')
    assert follower.story(folder).losses[-1] == ("gaussians", 6, 1.5)
    assert follower.story(folder).offset == folder.events.stat().st_size


def test_steps_that_are_done_again_after_a_crash_count_once(tmp_path):
    folder, follower = running_run(tmp_path), Follower()
    follower.story(folder)
    folder.append_event("step", stage="gaussians", step=3, steps=20, loss=7.0)
    story = follower.story(folder)
    assert [step for _, step, _ in story.losses] == [1, 2, 3] and story.losses[-1][2] == 7.0


def test_the_log_ends_with_its_last_lines(tmp_path):
    folder = running_run(tmp_path)
    assert tail(folder, lines=1) == "last line"
    folder.log.unlink()
    assert tail(folder) == ""


def test_smoothing_keeps_what_is_constant_and_straight_lines_inside():
    assert np.allclose(smooth(np.full(30, 2.5)), 2.5)
    line = np.arange(30.0)
    assert np.allclose(smooth(line)[4:-4], line[4:-4])


def test_the_chart_gives_every_stage_its_share_of_the_width():
    losses = [("a", step, 1.0 / step) for step in range(1, 31)]
    losses += [("b", step, 9.0) for step in range(1, 11)]
    drawn = loss_chart(losses, {"a": 30, "b": 10})
    assert drawn.count("<polyline") == 2 and 'x1="480.0"' in drawn
    assert "flex:30" in drawn and "flex:10" in drawn
    assert loss_chart(losses[:1], {"a": 30}) == ""


def test_the_memory_is_drawn_from_zero_to_its_most_with_few_points():
    memory = [("a", step, 2.0 if step > 5000 else 1.0) for step in range(1, 10_001)]
    drawn = memory_chart(memory, {"a": 10_000})
    (points,) = re.findall(r'points="([^"]+)"', drawn)
    heights = [float(pair.partition(",")[2]) for pair in points.split()]
    ends = {HEIGHT - 8 - share * (HEIGHT - 16) for share in (0.5, 1.0)}
    assert set(heights) == ends and len(heights) <= POINTS


def test_only_what_differs_is_a_change():
    before = {"seed": 0, "a": {"b": 1, "c": [1, 2]}, "losses": {"x": 1}}
    after = {"seed": 0, "a": {"b": 1.0, "c": [1, 3]}, "losses": {"x": 1, "y": 2}}
    assert differences(before, before) == {}
    assert differences(before, after) == {"a.b": 1.0, "a.c": [1, 3], "losses.y": 2}


def test_a_schedule_in_the_place_of_a_number_is_one_change():
    assert differences({"t": 0.5}, {"t": {"from": 1, "to": 0}}) == {"t": {"from": 1, "to": 0}}


def test_a_removed_setting_and_another_recipe_are_refused():
    with pytest.raises(InputError, match=r"a\.b"):
        differences({"a": {"b": 1}}, {"a": {}})
    with pytest.raises(InputError, match=r"a\.name"):
        differences({"a": {"name": "sds"}}, {"a": {}})


def test_another_component_misses_no_setting_of_the_one_before():
    before = {"rule": {"name": "sds", "sees": "rgb", "guidance_scale": 8}}
    rules = {"colors": {"name": "sds"}}
    for after in ({"name": "csd", "sees": "rgb", "scale": 2}, {"name": "sum", "rules": rules}):
        changed = {f"rule.{key}": value for key, value in after.items() if key != "sees"}
        assert differences(before, {"rule": after}) == changed
    with pytest.raises(InputError, match="recipe"):
        split_about({"recipe": "toybox-nerf"})
    assert split_about({"seed": 3, "a.b": 1}) == ({"seed": 3}, {"a.b": 1})


@pytest.mark.parametrize("value", [1, 0.5, True, None, "text", [1, 2.5], {"from": 1, "to": 0}])
def test_the_command_repeats_every_setting(value):
    line = command(
        "a 'red' ball",
        negative_prompt="blue",
        recipe="toybox",
        quality="draft",
        seed=4,
        settings={"a.b": value},
    )
    words = shlex.split(line)
    assert words[:3] == ["dreamlab", "generate", "a 'red' ball"]
    options = dict(zip(words[3:-1:2], words[4:-1:2], strict=True))
    assert options == {
        "--recipe": "toybox",
        "--quality": "draft",
        "--seed": "4",
        "--negative": "blue",
    }
    key, _, text = words[-1].partition("=")
    assert key == "a.b" and plain(text) == value


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5400, "1 h 30 min"), (7200, "2 h"), (None, "")],
)
def test_times_are_written_in_words(seconds, words):
    assert markup.duration(seconds) == words


def test_ages_are_written_in_words():
    ages = {5: "just now", 60: "1 minute ago", 7300: "2 hours ago", 90000: "1 day ago"}
    assert {age: markup.ago(1e6 - age, now=1e6) for age in ages} == ages


def test_text_of_users_is_escaped():
    bad = "<script>alert(1)</script>"
    error = InputError(bad, bad)
    shown = (
        markup.problem(error) + markup.chips([bad]) + markup.facts({bad: bad}) + markup.badge(bad)
    )
    assert "<script" not in shown and shown.count("&lt;script&gt;") >= 5
