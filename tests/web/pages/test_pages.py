"""Claims about what the pages show of a folder of made-up runs, without a browser."""

import asyncio
import json
import os
import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import gradio as gr
import pytest
from made_up_runs import finished_run, running_run, sheet, write_config
from queued_runs import queued_run

from dreamlab.core.errors import InputError, MissingError
from dreamlab.core.pictures import save
from dreamlab.export.settings import BLENDER_FORMATS, Format
from dreamlab.jobs import state
from dreamlab.jobs.queue import exports
from dreamlab.web.pages import PAGES, build_pages, compare, export, run, runs
from dreamlab.web.pages.follow import Follower
from dreamlab.web.service import Service

BAD = '<img src=x onerror="alert(1)">'


@pytest.fixture
def service(tmp_path) -> Service:
    """A service over an empty folder."""
    return Service(tmp_path / "runs")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> gr.Blocks:
    """All pages; built where an event loop runs, so that Gradio opens none that it never closes."""

    async def build() -> gr.Blocks:
        return build_pages(Service(tmp_path_factory.mktemp("pages")))

    return asyncio.run(build())


def look(service: Service, name: str) -> dict:
    return run.look(service, Follower(), name)


def test_all_pages_are_built_and_listed_but_that_of_one_run(pages):
    listed = [name for _, name, shown in pages.pages if shown]
    assert listed == ["Home", *(name for name, *_, shown in PAGES if shown)]
    assert "Run" not in listed and len(pages.pages) == len(PAGES) + 1
    assert len({address for address, *_ in pages.pages}) == len(pages.pages)


def test_no_event_that_polls_waits_in_the_queue(pages):
    events = pages.fns.values()
    ticks = [event for event in events if event.targets and event.targets[0][1] == "tick"]
    assert len(ticks) >= 5 and not any(event.queue for event in ticks)


def test_pages_that_nobody_looks_at_leave_the_processor_alone(pages, monkeypatch):
    looks = 0
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        nonlocal looks
        looks += 1
        await sleep(seconds)

    async def idle() -> None:
        loops = [pages._queue.start_processing(), pages._queue.start_progress_updates()]
        tasks = [asyncio.create_task(loop) for loop in loops]
        monkeypatch.setattr(asyncio, "sleep", counted)
        await sleep(0.3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stopped = pages._queue.stopped
    pages._queue.stopped = False
    asyncio.run(idle())
    pages._queue.stopped = stopped
    assert 2 <= looks < 0.3 * 200


def test_a_page_holds_what_it_means_itself(pages):
    """The server forgets the state of a session when it restarts, or the laptop was closed."""
    assert not [block for block in pages.blocks.values() if isinstance(block, gr.State)]


def test_no_event_that_carries_data_is_put_off_or_left_out(pages):
    """Gradio dispatches an event that it put off without its data."""
    told = [fn for fn in pages.fns.values() if any(name == "select" for _, name in fn.targets)]
    assert len(told) >= 8 and {fn.trigger_mode for fn in told} == {"multiple"}


def test_an_empty_folder_says_what_to_do(service):
    html, total = runs.gallery_of(service, "", "", "newest", False, 0)
    assert total == 0 and "No runs yet" in html and 'href="./"' in html
    html, _ = runs.gallery_of(service, "dragon", "", "newest", False, 0)
    assert "Nothing found" in html


def test_the_gallery_shows_runs_with_picture_state_and_link(service):
    done, waits = finished_run(service.runs), queued_run(service.runs, "a green cone")
    html, total = runs.gallery_of(service, "", "", "newest", False, 0)
    assert total == 2 and html.count("<article") == 2 and html.count("data:image/webp") == 1
    for folder, word in ((done, "Done"), (waits, "Waiting")):
        assert f'href="run?name={folder.root.name}"' in html and word in html
        assert f'href="{service.url(folder)}/archive"' in html


def test_the_gallery_searches_filters_and_pages(service):
    for seed in range(runs.PAGE + 2):
        queued_run(service.runs, "a red ball", seed, state="done")
    service.act(finished_run(service.runs, "a blue cone"), "favourite")
    queued_run(service.runs, "a yellow cone")

    def shown(words="", of_state="", favourites=False, page=0) -> tuple[int, int]:
        html, total = runs.gallery_of(service, words, of_state, "newest", favourites, page)
        return html.count("<article"), total

    everything = runs.PAGE + 4
    assert shown() == (runs.PAGE, everything) and shown(page=1) == (4, everything)
    assert shown("cone") == (2, 2) and shown("cone", "queued") == (1, 1)
    assert shown(favourites=True) == (1, 1)


def test_a_run_that_is_not_there_is_told_kindly(service):
    for name in ("", "nothing", "../secrets", "a/b"):
        seen = look(service, name)
        assert "no such run" in seen["head"] and seen["state"] == "" and not seen["model"]


def test_a_waiting_run_says_that_the_page_may_be_closed(service):
    seen = look(service, queued_run(service.runs, "a cone").root.name)
    assert "close this page" in seen["head"] and "Waiting" in seen["head"]


def test_a_running_run_shows_phase_step_and_time_left(service):
    folder = running_run(service.runs)
    with state.held(folder, beat=False):
        state.begin(folder, is_queued=True)
        state.enter_phase(folder, "gaussians")
        seen = look(service, folder.root.name)
    for words in ("step 5 of 20", "2.0 steps/s", "12 s of training left", "Running"):
        assert words in seen["head"]
    filled = re.findall(r'<i style="width:([\d.]+)%">', seen["head"])
    assert [float(part) for part in filled] == [100.0, 25.0, 0.0, 0.0, 0.0]
    assert "After 5 steps" in seen["pictures"] and seen["pictures"].count("<img") == 12
    assert seen["chart"].count("<polyline") == 2 and "at most 1.0 GB" in seen["chart"]
    assert "last line" in seen["log"]
    assert seen["result"] == "" and seen["downloads"] == ""


def test_a_finished_run_shows_its_result(service):
    folder = finished_run(service.runs)
    seen = look(service, folder.root.name)
    assert "12,345" in seen["result"] and "1 of 1 checks passed" in seen["result"]
    assert "Ready for Blender" in seen["result"] and "turntable.mp4" in seen["result"]
    assert seen["model"] and seen["pictures"].count("<img") == 24
    links = re.findall(r'href="([^"]+)"', seen["downloads"])
    assert links[0].endswith("/files/exports/model.glb") and links[-1].endswith("/archive")
    for link in links[:-1]:
        service.file(folder, link.partition("/files/")[2])  # all of them can be had


def test_a_failed_run_says_why_and_what_to_do(service):
    folder = queued_run(
        service.runs, "a cone", state="failed", reason="it diverged.", fix="try another seed."
    )
    seen = look(service, folder.root.name)
    assert "It diverged." in seen["head"] and "try another seed." in seen["head"]
    assert 'role="alert"' in seen["head"]


def test_a_failed_run_gives_what_it_has_made(service):
    folder = finished_run(service.runs)
    with state.held(folder, beat=False):
        state.begin(folder)
        state.finish(folder, "failed", "the export failed.", "try again.")
    seen = look(service, folder.root.name)
    assert "turntable.mp4" in seen["result"] and "archive" in seen["downloads"] and seen["model"]


def test_a_run_that_goes_on_shows_its_newest_views_not_what_was_kept_before(service):
    folder = finished_run(service.runs)
    assert "All views" in run.previews(folder)
    later = folder.previews / "000012.webp"
    later.parent.mkdir(exist_ok=True)
    save(sheet(), later)
    os.utime(later, ns=(folder.preview.stat().st_mtime_ns + 10**9,) * 2)
    assert "After 12 steps" in run.previews(folder)


def test_an_answer_that_is_overtaken_is_made_good_by_the_next_look(service):
    page: Any = run._Page.__new__(run._Page)
    page.service, page.follower = service, Follower()
    page.panels = dict.fromkeys(("head", "pictures", "chart", "log", "result", "downloads"))
    folder = running_run(service.runs)
    name = folder.root.name

    def answer(before: dict) -> tuple[dict, dict]:
        known, _, *shown = page.tick(name, before)
        fresh = zip(page.panels, shown, strict=False)
        return known, {panel: new for panel, new in fresh if isinstance(new, str)}

    late, old = answer({})
    folder.append_event("step", stage="gaussians", step=6, steps=20, loss=1.0, rate=2.0, eta=9.0)
    known, new = answer(late)
    assert set(new) == {"head", "chart"}
    assert answer(known)[1] == {}
    _, again = answer(late)  # the page shows what came last, and says so
    assert again == new and old["head"] != new["head"]
    assert len(json.dumps(known)) < 500


def test_a_look_at_what_has_not_changed_is_the_same(service):
    folder = finished_run(service.runs)
    follower = Follower()
    assert run.look(service, follower, folder.root.name) == run.look(
        service, follower, folder.root.name
    )


def test_buttons_follow_the_state():
    def shown(of_state: str) -> set[str]:
        buttons = run._buttons(of_state, False)
        return {
            name
            for name, button in zip([*run.ACTIONS, "delete"], buttons, strict=True)
            if button.visible
        }

    always = {"duplicate", "favourite"}
    assert shown("running") == always | {"stop", "pause", "cancel"}
    assert shown("done") == always | {"delete"}
    assert shown("paused") == always | {"resume", "cancel", "delete"}
    assert shown("") == set()


def test_every_button_is_allowed_in_the_states_in_which_it_is_shown(service):
    for action, (_, states) in run.ACTIONS.items():
        for of_state in set(states) - {"running"}:
            folder = finished_run(service.runs)
            with state.held(folder, beat=False):
                state.write(folder, state.Job(state=of_state, is_queued=True, prompt="a"))
            service.act(folder, action)


def test_two_runs_are_compared_from_the_same_camera(service):
    a, b = finished_run(service.runs, seed=1), finished_run(service.runs, "a cone", seed=2)
    html = compare.over_each_other(service, a.root.name, b.root.name, "rgb", 90)
    assert html.count("<img") == 2 and 'type="range"' in html
    html = compare.over_each_other(service, a.root.name, b.root.name, "turntable", 0)
    assert html.count("<video") == 2
    table = compare.differences_of(service, a.root.name, b.root.name)
    unlike = table.partition("Settings that differ")[2]
    assert re.findall(r"<tr><td>(\w+)</td>", unlike) == ["prompt", "seed"]


def test_a_run_without_pictures_cannot_be_compared_yet(service):
    a, b = finished_run(service.runs), queued_run(service.runs, "a cone")
    with pytest.raises(InputError, match="a cone"):
        compare.over_each_other(service, a.root.name, b.root.name, "rgb", 0)
    assert compare.over_each_other(service, a.root.name, None, "rgb", 0) == compare.CHOOSE


def test_prompts_of_users_are_escaped_everywhere(service):
    folder = finished_run(service.runs, BAD)
    html, _ = runs.gallery_of(service, "", "", "newest", False, 0)
    seen = look(service, folder.root.name)
    both = compare.over_each_other(service, folder.root.name, folder.root.name, "rgb", 0)
    assert BAD not in html + both + "".join(str(part) for part in seen.values())


def test_formats_of_blender_are_grey_and_say_why_where_it_is_missing():
    missing = MissingError("Blender writes usdz.", "install it.")
    html = export.format_cards(["glb", "stl"], missing)
    assert html.count("disabled") == html.count("is-off") == len(BLENDER_FORMATS)
    assert re.findall(r'value="(\w+)" checked', html) == ["glb", "stl"]
    assert "install it." in html
    assert "disabled" not in export.format_cards(["usdz"], None)
    assert set(export.FORMATS) == set(get_args(Format))


def test_the_form_of_an_export_is_what_the_command_line_says(service):
    settings = export.settings_of(["glb", "obj"], 0.5, 900.0, None)
    assert settings == {
        "export.formats": ["glb", "obj"],
        "export.height": 0.5,
        "export.max_faces": 900,
    }
    line = shlex.split(export.command(finished_run(service.runs), settings))
    assert line[:2] == ["dreamlab", "export"]
    assert line[3:] == "--format glb --format obj export.height=0.5 export.max_faces=900".split()


def test_the_export_page_follows_a_run_and_shows_why_nothing_came(service):
    page = export._Page.__new__(export._Page)
    page.service = service
    folder = finished_run(service.runs)
    name, form = folder.root.name, (["glb"], 1.0, 900, 512)
    shown = ["", "", "", ""]

    def look_again() -> dict[str, Any]:
        """Look as the page does, which tells what it shows and keeps what is skipped."""
        *fresh, button = page.look(*shown, name, *form)
        shown[:] = [
            old if isinstance(new, dict) else new for old, new in zip(shown, fresh, strict=True)
        ]
        panels = dict(zip(("progress", "result", "files", "line"), shown, strict=True))
        return panels | {"ready": button.interactive}

    seen = look_again()
    assert "12,345" in seen["result"] and "model.glb" in seen["files"] and seen["ready"]
    assert look_again() == seen
    wanted = exports.ask(folder, []) and exports.read(folder)
    seen = look_again()
    assert "Waits" in seen["progress"] and not seen["files"] and not seen["ready"]
    with state.held(folder, beat=False):
        exports.end(folder, wanted, f"{exports.FAILED}: too few faces.", "allow more.")
    seen = look_again()
    assert "too few faces." in seen["progress"] and "allow more." in seen["progress"]
    assert seen["ready"] and "too few faces." in look(service, name)["head"]


def test_a_stage_that_one_run_alone_has_is_one_line_of_the_comparison(service):
    a, b = finished_run(service.runs), finished_run(service.runs, seed=2)
    write_config(b, prompt="a red ball", seed=2, stages={"nerf": {"steps": 7, "lr": 0.1}})
    unlike = compare.differences_of(service, a.root.name, b.root.name).partition("differ")[2]
    keys = re.findall(r"<tr><td>([\w.]+)</td>", unlike)
    assert keys == ["seed", "stages.gaussians", "stages.mesh", "stages.nerf"]
    assert "7 steps" in unlike


def test_a_page_of_the_gallery_that_is_gone_gives_way_to_the_last_one(service):
    page: Any = runs._Page.__new__(runs._Page)
    page.service = service
    for seed in range(runs.PAGE + 1):
        queued_run(service.runs, "a red ball", seed)
    names = ("gallery", "known", "where", "back", "on", "page")
    for name in names:
        setattr(page, name, gr.HTML())
    filters = ("", "", "newest", False)
    cards, known, where, back, on, number = page.show(*filters, 3, "")
    assert "Page 2 of 2" in where and cards.count("<article") == 1 and number == 1
    assert back.visible and not on.visible
    again = page.show(*filters, 1, known)
    assert not [each for each in again if isinstance(each, str | int)]


def test_addresses_of_runs_hold_their_names_whatever_is_in_them(service):
    folder = queued_run(service.runs)
    folder.root.rename(service.runs / "100% a&b#c")
    html, _ = runs.gallery_of(service, "", "", "newest", False, 0)
    links = [
        urlsplit(unescape(link)) for link in re.findall(r'href="((?:run|compare)[^"]*)"', html)
    ]
    found = [parse_qs(link.query) for link in links]
    assert found == [{"name": ["100% a&b#c"]}, {"a": ["100% a&b#c"]}]


def test_what_a_killed_export_left_behind_does_not_hide_the_result(service):
    folder = finished_run(service.runs)
    (folder.exports / ".model.glb.1-2.part.glb").touch()
    seen = look(service, folder.root.name)
    assert "12,345" in seen["result"] and "model.glb" in seen["downloads"] and seen["model"]


def test_the_size_of_texture_that_a_run_has_can_be_chosen_again(service):
    page: Any = export._Page.__new__(export._Page)
    page.service = service
    folder = finished_run(service.runs)
    write_config(folder, export={"texture_size": 700})
    texture = page.take(folder.root.name)[3]
    assert texture.preprocess(700) == 700 and texture.value == 700


def test_a_run_that_is_deleted_while_it_is_looked_at_has_no_story(service, monkeypatch):
    folder, follower = running_run(service.runs), Follower()
    seen = follower.story(folder)
    assert seen.losses
    folder.append_event("step", stage="gaussians", step=6, steps=20, loss=1.0)
    follower.story(folder)
    assert len(seen.losses) == 5, "who shows it has what there was when it looked"
    stat = Path.stat

    def stat_then_delete(path: Path, **options: Any) -> os.stat_result:
        found = stat(path, **options)
        if path == folder.events:
            path.unlink()
        return found

    monkeypatch.setattr(Path, "stat", stat_then_delete)
    follower.story(folder)
    folder.events.unlink(missing_ok=True)
    assert follower.story(folder).losses == []
