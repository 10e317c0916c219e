"""Claims about the page as a user has it: a real server, real runs, Chromium."""

import json
import time
from urllib.request import urlopen

import pytest

from dreamlab.priors.hub import find_local
from dreamlab.priors.load import resolve_model

HAS_WEIGHTS = find_local(resolve_model("toybox").sources[0]) is not None
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not HAS_WEIGHTS, reason="the embedded prior's weights are not here"),
]
LIMIT = 400_000
"""For what a run takes on a busy machine, ms."""
SMALL = {
    "stages.gaussians.steps": 12,
    "stages.gaussians.views": 1,
    "stages.gaussians.representation.count": 300,
    "stages.mesh.steps": 3,
    "stages.mesh.representation.resolution": 12,
    "export.resolution": 48,
    "export.max_faces": 1500,
    "export.texture_size": 256,
    "export.unwrap": "box",
}
PAGES = ("", "runs", "compare", "export", "batch", "help", "run?name=nothing")


def submit(server, **settings) -> str:
    body = {"prompt": "a red mushroom", "quality": "draft", "settings": SMALL | settings}
    return server.ask("POST", "jobs", **body)["name"]


def percent(page) -> int:
    return int(page.locator(".phases").get_attribute("aria-valuenow"))


def wait_until(claim, seconds: float = LIMIT / 1000) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.3)


def test_a_prompt_becomes_a_model_though_the_page_is_refreshed_in_the_middle(server, open_page):
    page = open_page()
    page.locator("#prompt textarea").fill("a redd mushroom")
    page.locator('[data-near="red"]').click()
    assert page.locator("#prompt textarea").input_value() == "a red mushroom"
    page.locator('input[name=quality][value="draft"]').focus()
    page.keyboard.press("Space")
    page.locator('[data-key="stages.gaussians.steps"][data-default="250"]').wait_for(
        state="attached"
    )
    page.locator(".setting-search").fill(".")  # shows all of them
    for key, value in SMALL.items():
        field = page.locator(f'[data-key="{key}"]')
        if field.evaluate("element => element.tagName") == "SELECT":
            field.select_option(str(value))
        else:
            field.fill(str(value))
            field.press("Tab")
        page.get_by_text(f"{key}={value}", exact=True).first.wait_for()
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/run?name=*")
    page.locator(".badge-running").wait_for(timeout=LIMIT)
    page.reload()
    page.locator("#run-head .badge-done").wait_for(timeout=LIMIT)
    assert page.locator("h1").inner_text() == "a red mushroom" and percent(page) == 100
    page.locator("#model canvas").wait_for()
    assert page.locator("#chart polyline").count() == 4
    link = page.get_by_role("link", name="model.glb")
    with urlopen(server.url + link.get_attribute("href").lstrip("/")) as answer:
        assert answer.read(4) == b"glTF"
    assert page.locator("#pictures img").count() == 24
    assert page.locator("video").evaluate("video => video.error") is None
    page.get_by_role("link", name="Edit and run again").click()
    page.get_by_text("export.unwrap=box", exact=True).first.wait_for()
    page.locator("#generate-button:not([disabled])").wait_for()
    assert page.locator("#prompt textarea").input_value() == "a red mushroom"
    page.get_by_text("stages.gaussians.steps=12", exact=True).first.wait_for()


def test_a_finished_run_is_exported_again_and_a_refused_one_says_why(server, open_page):
    done = server.ask("GET", "jobs?state=done&limit=1")["jobs"]
    name = done[0]["name"] if done else submit(server)
    page = open_page(f"run?name={name}")
    page.locator("#run-head .badge-done").wait_for(timeout=LIMIT)
    page.get_by_role("link", name="Export again").click()
    page.locator("#export-state .badge-done").wait_for()
    page.get_by_text("export.max_faces=").first.wait_for()
    page.locator('#formats input[value="stl"]').check()
    faces = page.locator("#faces input")
    for number in (50, 700):
        faces.fill(str(number))
        faces.press("Tab")
        page.get_by_text(f"export.max_faces={number}").first.wait_for()
        page.locator("#export").click()
        if number == 50:
            page.locator(".notice.bad", has_text="max_faces").wait_for()
    page.get_by_role("link", name="model.stl").wait_for(timeout=LIMIT)
    assert page.locator("#export-state .badge-done").is_visible()
    assert page.get_by_text("Ready for Blender").is_visible()
    report = json.loads((server.runs / name / "report.json").read_text())
    assert report["export"]["faces"] <= 700


def test_another_part_and_boxes_are_settings_of_the_command(server, open_page):
    page = open_page()
    page.locator("#prompt textarea").fill("a red mushroom next to a blue car")
    page.get_by_role("tab", name="Method").click()
    choice = '[name="gaussians-representation"]'
    page.locator(f'{choice}[value="image"][disabled]').wait_for(state="attached", timeout=LIMIT)
    assert page.locator(".why-not", has_text="no surface").count()
    page.locator(f'.choice:has({choice}[value="hashgrid"])').click()
    page.get_by_text("stages.gaussians.renderer.name=volume", exact=True).wait_for()
    page.get_by_role("tab", name="Layout").click()
    page.locator("#read-layout").click()
    page.locator(".layout-picture").wait_for()
    field = page.get_by_label("center y of box 1")
    field.fill("3")
    field.press("Tab")
    page.locator("#layout-seen .notice.bad", has_text="must lie in the cube").wait_for()
    page.locator("#clear-layout").click()
    page.get_by_text("No boxes of your own.").wait_for()
    page.get_by_role("tab", name="Command line").click()
    command = page.locator(".cm-content:visible", has_text="stages.gaussians.renderer.name=volume")
    command.wait_for()
    assert "layout" not in command.inner_text()
    page.get_by_role("tab", name="Settings").click()
    page.locator(".setting-search").fill(".")
    for key, value in (("export.max_faces", 900), ("export.texture_size", 256)):
        page.locator(f'[data-key="{key}"]').fill(str(value))  # faster than the server answers
    page.keyboard.press("Tab")
    texts = ("export.max_faces=900", "export.texture_size=256")
    for text in texts:
        page.get_by_text(text, exact=True).first.wait_for()
    wait_until(lambda: "texture_size" in page.url)
    page.reload()
    for text in texts:
        page.get_by_text(text, exact=True).first.wait_for()
    page.get_by_text("stages.gaussians.renderer.name=volume", exact=True).first.wait_for()
    assert page.locator("#prompt textarea").input_value() == "a red mushroom next to a blue car"


def test_a_prior_of_several_views_is_chosen_and_brings_them(server, open_page):
    page = open_page()
    page.get_by_role("tab", name="Method").click()
    choice = '[name="-prior"]'
    page.locator(f'.choice:has({choice}[value="mvdream"])').click(timeout=LIMIT)
    for text in ("prior.model=mvdream", "stages.gaussians.views=4", "stages.mesh.views=4"):
        page.get_by_text(text, exact=True).first.wait_for()
    page.locator(f'{choice}[value="mvdream"]:checked').wait_for(state="attached", timeout=LIMIT)
    page.locator(f'.choice:has({choice}[value="toybox"])').click()
    page.locator("#changed .chip").first.wait_for(state="detached")


def test_a_run_that_is_stopped_at_a_third_is_kept_and_exported(server, open_page):
    name = submit(server, **{"stages.gaussians.steps": 150})
    page = open_page(f"run?name={name}")
    page.locator(".badge-running").wait_for(timeout=LIMIT)
    wait_until(lambda: percent(page) >= 27)
    page.get_by_role("button", name="Stop and keep").click()
    page.locator("#run-head .badge-stopped").wait_for(timeout=LIMIT)
    assert 27 <= percent(page) <= 80
    page.get_by_role("link", name="model.glb").wait_for()
    assert (server.runs / name / "exports" / "model.glb").read_bytes()[:4] == b"glTF"
    assert page.get_by_role("button", name="Resume").is_visible()


def test_a_run_goes_on_when_the_server_is_killed_and_the_page_shows_it_again(server, open_page):
    name = submit(server, **{"stages.gaussians.steps": 5000})
    page = open_page(f"run?name={name}")
    page.locator(".badge-running").wait_for(timeout=LIMIT)
    events = server.runs / name / "events.jsonl"
    wait_until(lambda: events.exists() and '"step"' in events.read_text())
    server.kill()
    before = events.stat().st_size
    wait_until(lambda: events.stat().st_size > before)
    server.start()  # nobody touches the page meanwhile
    seen = page.locator(".now").inner_text()
    page.get_by_text("of 5000").wait_for()
    wait_until(lambda: page.locator(".now").inner_text() != seen)
    page.locator(".badge-running").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator("#run-head .badge-cancelled").wait_for(timeout=LIMIT)


def test_two_sessions_see_the_same_runs_and_keep_their_own_forms(server, open_page):
    server.ask("POST", f"jobs/{submit(server)}/cancel")
    first, second = open_page("runs"), open_page("runs")
    first.locator('[data-do="favourite"]').first.click()
    second.locator('[data-do="unfavourite"]').first.wait_for()
    texts = ("a red ball", "a green cone")
    for page, text in zip((first, second), texts, strict=True):
        page.goto(server.url)
        page.locator("#prompt textarea").fill(text)
    for page, text in zip((first, second), texts, strict=True):
        page.get_by_role("tab", name="Command line").click()
        page.get_by_text(f"dreamlab generate '{text}'").wait_for()


def test_a_bad_row_of_a_batch_says_why_and_harms_no_other(server, open_page):
    page = open_page("batch")
    page.get_by_label("CSV").check()
    rows = "prompt,recipe,stages.image.steps\na red ball,toybox-image,2\na cone,toybox-imag,2\n"
    page.locator("#rows textarea").fill(rows + "a blue ball,toybox-image,2\n")
    page.locator("#check-rows").click()
    page.get_by_text("2 rows can run").wait_for()
    assert "toybox-image" in page.locator(".reason").inner_text()
    page.locator("#queue-rows").click()
    page.wait_for_url("**/batch?id=*")
    done = page.locator("#batch-table .badge-done")
    wait_until(lambda: done.count() == 2)
    assert page.locator("#batch-table .badge-failed").count() == 1


def test_rows_that_are_typed_outlive_a_refresh(open_page):
    page = open_page("batch")
    page.get_by_label("CSV").check()
    rows = "prompt,seed\na red ball & a cone #1,3\n"
    page.locator("#rows textarea").fill(rows)
    wait_until(lambda: "cone" in page.url and "csv" in page.url)
    page.reload()
    wait_until(lambda: page.locator("#rows textarea").input_value() == rows)
    assert page.get_by_label("CSV").is_checked()


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_no_page_is_wider_than_the_screen_or_has_fields_without_names(
    server, open_page, width, mode
):
    page = open_page()
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=mode)
    for address in PAGES:
        page.goto(server.url + address)
        page.locator("h1, .nothing").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        nameless = page.evaluate(
            """[...document.querySelectorAll('input, textarea, select, button')].filter((field) =>
              field.offsetParent && !field.labels?.length && !field.getAttribute('aria-label')
              && !field.getAttribute('title') && !field.innerText.trim()).map((f) => f.outerHTML)"""
        )
        assert nameless == [], address
