"""Claims about the page as a user has it: a real server, real runs, Chromium."""

import io
import json
import time
import zipfile
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from glb_bytes import glb
from made_up_runs import finished_run
from PIL import Image

from dreamlab.core.protocols import Splats
from dreamlab.core.run_folder import RunFolder
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.splat_ply import write_splats
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


def address(page) -> str:
    """Return the page's address as it is now; `page.url` misses what is put behind its #."""
    return page.evaluate("location.href")


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


def test_settings_are_those_of_the_chosen_rule_and_of_the_prompt(server, open_page):
    page = open_page()
    page.locator("#prompt textarea").fill("a red mushroom")
    key = "stages.gaussians.guidance"
    page.locator(f'[data-key="{key}.guidance_scale"]').wait_for(state="attached", timeout=LIMIT)
    share = page.locator('[data-key="stages.mesh.semantic.scene_share"]')
    alone = share.input_value()
    page.locator("#prompt textarea").fill("a red mushroom next to a blue car")
    wait_until(lambda: share.input_value() not in (alone, ""))
    page.locator(".setting-search").fill("guidance.name")
    page.locator(f'[data-key="{key}.name"]').select_option("csd")
    page.get_by_text(f"{key}.name=csd", exact=True).wait_for()
    scale = page.locator(f'[data-key="{key}.scale"]')
    scale.wait_for(timeout=LIMIT)  # its stage is open
    scale.fill("4")
    page.keyboard.press("Tab")
    page.get_by_text(f"{key}.scale=4", exact=True).wait_for()
    page.locator(f'[data-key="{key}.name"]').select_option("sds")
    page.locator(f'[data-key="{key}.guidance_scale"]').wait_for(timeout=LIMIT)
    assert not page.locator(f'[data-key="{key}.scale"]').count()
    page.locator("#changed .chip").first.wait_for(state="detached")


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


def test_a_run_is_paused_goes_on_and_is_copied(server, open_page):
    name = submit(server, **{"stages.gaussians.steps": 5000})
    page = open_page(f"run?name={name}")
    page.locator("#run-head .badge-running").wait_for(timeout=LIMIT)
    page.get_by_role("button", name="Pause").click()
    page.locator("#run-head .badge-paused").wait_for(timeout=LIMIT)
    page.get_by_role("button", name="Resume").click()
    page.locator("#run-head .badge-running").wait_for(timeout=LIMIT)
    page.get_by_role("button", name="Duplicate").click()
    page.wait_for_url(lambda url: name not in url)
    page.locator("#run-head .badge-queued").wait_for()
    copy = page.url.partition("name=")[2]
    for run in (copy, name):
        server.ask("POST", f"jobs/{run}/cancel")
    page.locator("#run-head .badge-cancelled").wait_for(timeout=LIMIT)
    wait_until(lambda: server.ask("GET", f"jobs/{name}")["state"] == "cancelled")


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


def test_rows_of_a_file_are_checked_and_a_bad_one_says_why(open_page, tmp_path):
    rows = tmp_path / "night.csv"
    rows.write_text("prompt,seed\na red ball,1\na green cone,many\n")
    page = open_page("batch")
    page.locator("input[type=file]").set_input_files(rows)
    page.get_by_text("night.csv").first.wait_for()
    page.locator("#check-rows").click()
    page.get_by_text("1 row can run").wait_for()
    assert "seed must be a whole number" in page.locator(".reason").inner_text()
    assert page.locator("#queue-rows").is_enabled()


def test_things_of_a_prompt_have_boxes_unless_they_are_to_go_without(open_page):
    page = open_page()
    page.locator("#prompt textarea").fill("a cat on top of a table")
    told = page.get_by_text("A box for each of: a cat; a table.")
    told.wait_for()
    page.get_by_role("tab", name="Layout").click()
    page.locator("#no-layout").click()
    page.get_by_text("layout=null", exact=True).first.wait_for()
    told.wait_for(state="detached")
    page.locator("#clear-layout").click()
    told.wait_for()


def test_two_runs_are_compared_by_a_border_that_keys_move(server, open_page):
    names = [finished_run(server.runs, "a grey owl", seed=seed).root.name for seed in (1, 2)]
    page = open_page(f"compare?a={names[0]}&b={names[1]}")
    border = page.get_by_label("border between the two runs")
    border.wait_for()
    seen = [page.locator(".wipe img").first.get_attribute("src")]
    at = page.locator(".wipe").evaluate("wipe => wipe.style.getPropertyValue('--at')")
    border.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => document.querySelector('.wipe').style.getPropertyValue('--at') != before",
        arg=at,
    )
    assert page.locator("#unlike").get_by_text("seed", exact=True).is_visible()
    page.get_by_label("number input for Seen from").fill("180")
    page.keyboard.press("Tab")
    wait_until(lambda: page.locator(".wipe img").first.get_attribute("src") not in seen)


def test_runs_are_searched_marked_taken_along_and_deleted(server, open_page):
    folder = finished_run(server.runs, "a purple dragonfly")
    page = open_page("runs")
    page.locator("#search textarea, #search input").first.fill("dragonfly")
    card = page.locator("article.card")
    wait_until(lambda: card.count() == 1)
    card.locator('[data-do="favourite"]').click()
    card.locator('[data-do="unfavourite"]').wait_for()
    with page.expect_download() as download:
        card.get_by_label("zip of").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert any(name.endswith("exports/model.glb") for name in archive.namelist())
    card.locator('[data-do="delete"]').click()
    page.get_by_role("button", name="Delete for good").click()
    page.get_by_text("Nothing found").wait_for()
    assert not folder.root.exists()


def splatted(folder: RunFolder) -> None:
    """Give a run a triangle as its model, and a pillar of red Gaussians with a blue head."""
    (folder.exports / "model.glb").write_bytes(glb())
    height = torch.linspace(-0.5, 0.5, 400)
    means = torch.stack([torch.zeros(400), 0.1 * (40 * height).sin(), height], dim=1)
    blue = (height > 0.2)[:, None]
    colors = torch.where(blue, torch.tensor([0.1, 0.1, 0.9]), torch.tensor([0.9, 0.1, 0.1]))
    turns = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(400, 4)
    splats = Splats(means, turns, torch.full((400, 3), 0.04), torch.full((400,), 0.99), colors)
    write_splats(folder.exports / "splats.ply", splats, Placement(1.0, (0.0, 0.0, -0.5)))


def test_gaussians_are_shown_beside_the_mesh_and_upright(server, open_page):
    folder = finished_run(server.runs, "a pillar")
    splatted(folder)
    page = open_page(f"run?name={folder.root.name}")
    page.locator("#model canvas").wait_for()
    page.locator("#shown").get_by_label("Gaussians").check()

    def colours() -> tuple[np.ndarray, np.ndarray]:
        picture = Image.open(
            io.BytesIO(page.screenshot(clip=page.locator("#model").bounding_box()))
        )
        red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), int), -1, 0)
        return np.nonzero(red > green + 80)[0], np.nonzero(blue > green + 80)[0]

    wait_until(lambda: min(map(len, colours())) > 50)
    red, blue = colours()
    assert blue.mean() < red.mean(), "its head is above"
    other = finished_run(server.runs, "a ball").root.name
    page.goto(f"{server.url}run?name={other}")
    page.locator("#run-head .badge-done").wait_for()
    assert not page.locator("#shown").is_visible()


def test_the_machine_is_examined_from_the_page(open_page):
    page = open_page("help")
    page.locator("#doctor-button").click()
    page.locator("#doctor .badge-ok").first.wait_for(timeout=LIMIT)
    assert page.locator("#doctor").get_by_text("torch", exact=True).first.is_visible()


def test_a_prompt_that_is_pasted_is_looked_at(open_page):
    page = open_page()
    page.locator(".setting").first.wait_for(state="attached")
    page.locator("#prompt textarea").focus()
    page.keyboard.insert_text("a red mushroom")  # as pasting does, without a key
    page.locator("#generate-button:not([disabled])").wait_for()
    wait_until(lambda: "mushroom" in address(page))


def test_rows_that_are_typed_outlive_a_refresh(open_page):
    page = open_page("batch")
    page.get_by_label("CSV").check()
    rows = "prompt,seed\na red ball & a cone #1,3\n"
    page.locator("#rows textarea").fill(rows)
    wait_until(lambda: "cone" in address(page) and "csv" in address(page))
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
