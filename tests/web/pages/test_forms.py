"""Claims about the Generate and Batch pages, on the process that checks settings."""

import json
import threading
from dataclasses import replace

import gradio as gr
import pytest
import yaml

from dreamlab.core.errors import InputError
from dreamlab.jobs import lock
from dreamlab.jobs.choices import Option, Part
from dreamlab.web.errors import TooManyError
from dreamlab.web.pages import (
    batch,
    batch_record,
    form_rules,
    generate,
    help,
    layout_form,
    method,
    settings_form,
)
from dreamlab.web.pages.doctor import Doctor
from dreamlab.web.service import Wish

FORM = ("a red mushroom", "", "toybox", "draft", 3, {})
SEVERAL = "a cat on top of a table"


def test_a_good_form_is_ready_and_says_what_it_takes(service):
    seen = form_rules.see(service, *FORM)
    assert seen.is_ready and seen.words == "" and "About" in seen.verdict
    assert "--seed 3" in seen.command and seen.yaml and "seed: 3" in seen.yaml


def test_without_a_prompt_settings_are_checked_all_the_same(service):
    seen = form_rules.see(service, "", *FORM[1:])
    assert not seen.is_ready and "Say what to make" in seen.verdict and seen.yaml
    seen = form_rules.see(service, "", *FORM[1:5], {"export.max_faces": "many"})
    assert "max_faces" in seen.verdict and seen.yaml is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"export.max_face": 10}, "max_faces"),
        ({"export.max_faces": -1}, "max_faces"),
        ({"stages.mesh.guidance.name": "nothing"}, "nothing"),
    ],
)
def test_a_wrong_setting_is_explained_at_once(service, settings, words):
    seen = form_rules.see(service, *FORM[:5], settings)
    assert not seen.is_ready and 'role="alert"' in seen.verdict and words in seen.verdict


def test_unknown_words_are_pointed_out_with_near_ones(service):
    seen = form_rules.see(service, "a redd mushroom", *FORM[1:])
    assert 'data-word="redd"' in seen.words and 'data-near="red"' in seen.words
    assert (
        form_rules.replace_word("a redd, Redd or redder", "redd", "red") == "a red, red or redder"
    )


def test_an_edited_file_becomes_fields_and_changed_settings(service):
    text = form_rules.see(service, *FORM).yaml
    assert text and form_rules.edited(service, text, *FORM) == ("a red mushroom", "", 3, {})
    changed = text.replace("max_faces: 10000", "max_faces: 9000").replace("seed: 3", "seed: 8")
    *_, seed, settings = form_rules.edited(service, changed, *FORM)
    assert seed == 8 and settings == {"export.max_faces": 9000}
    again = form_rules.see(service, *FORM[:4], seed, settings)
    assert again.yaml and again.yaml.splitlines() == changed.splitlines()


def test_a_rule_becomes_a_sum_of_rules_in_the_edited_file_and_its_settings_have_fields(service):
    form = ("a red mushroom", "", "toybox-image", "draft", 3)
    config = yaml.safe_load(form_rules.see(service, *form, {}).yaml)
    guidance = config["stages"]["image"]["guidance"]
    rules = {"colors": guidance, "detail": {"name": "csd", "latent_weight": 0.1}}
    config["stages"]["image"]["guidance"] = {"name": "sum", "rules": rules}
    *_, settings = form_rules.edited(service, yaml.safe_dump(config), *form, {})
    key = "stages.image.guidance"
    assert settings == {f"{key}.name": "sum", f"{key}.rules": rules}
    seen = form_rules.see(service, *form, settings)
    assert seen.is_ready and f"{key}.rules=" in seen.command
    found = yaml.safe_load(seen.yaml)["stages"]["image"]["guidance"]["rules"]
    assert found["colors"] == guidance and found["detail"]["latent_weight"] == 0.1
    *_, rule = service.parts("toybox-image", "draft", settings, "a red mushroom")
    assert rule.part == "guidance" and rule.chosen == "sum"
    assert 'value="sum" ' in method.form([rule]) and 'role="alert"' not in method.form([rule])
    shown = settings_form.form(service.settings("pgc", "draft"), {})
    assert 'data-key="stages.mesh.guidance.rules.normals.guidance_scale"' in shown


@pytest.mark.parametrize("text", ["a: [", "- 1", "seed: ${oc.env:HOME}", "prompt: a ball"])
def test_a_file_that_is_none_is_refused(service, text):
    with pytest.raises(InputError):
        form_rules.edited(service, text, *FORM)


@pytest.mark.parametrize("line", ["seed: x", "seed: 1.5", "prompt: 7", "recipe: toybox-nerf"])
def test_an_edited_value_that_is_refused_is_told(service, line):
    text = form_rules.see(service, *FORM).yaml
    assert text
    key = line.partition(":")[0]
    changed = "\n".join(line if old.startswith(f"{key}:") else old for old in text.splitlines())
    assert changed != text.rstrip()
    with pytest.raises(InputError):
        form_rules.edited(service, changed, *FORM)


def test_the_form_of_a_run_repeats_it(service):
    wish = form_rules.wish_of("a blue cone", "red", "toybox", "draft", 5, {"export.max_faces": 900})
    folder = service.submit(wish)
    form = form_rules.started(service, folder.root.name)
    assert form == ("a blue cone", "red", "toybox", "draft", 5, {"export.max_faces": 900})
    checked = form_rules.see(service, *form)
    assert checked.yaml == folder.config.read_text()
    assert form_rules.started(service, "nothing")[0] == ""


@pytest.mark.parametrize("settings", [{}, {"layout": None}, {"stages.mesh.steps": 7}])
def test_the_form_of_a_run_with_boxes_repeats_it_and_another_prompt_has_its_own(service, settings):
    wish = form_rules.wish_of(SEVERAL, "", "toybox", "draft", 0, settings)
    folder = service.submit(wish)
    assert ("prompt: a table" in folder.config.read_text()) == ("layout" not in settings)
    form = form_rules.started(service, folder.root.name)
    assert form == (SEVERAL, "", "toybox", "draft", 0, settings)
    seen = form_rules.see(service, *form)
    assert seen.yaml == folder.config.read_text()
    assert ("a cat; a table" in seen.verdict) == ("layout" not in settings)
    assert form_rules.edited(service, seen.yaml, *form)[3] == settings
    other = form_rules.see(service, "a dog", *form[1:])
    assert "box" not in other.verdict and "layout: null" in other.yaml


def test_boxes_that_are_moved_in_the_file_become_settings(service):
    form = (SEVERAL, *FORM[1:])
    text = form_rules.see(service, *form).yaml
    moved = text.replace("yaw: 0.0", "yaw: 30.0", 1)
    (kept,) = form_rules.edited(service, moved, *form)[3:]
    assert list(kept) == ["layout.boxes"] and kept["layout.boxes"][0]["yaw"] == 30
    again = form_rules.see(service, *form[:5], kept).yaml
    assert again.replace("\n  prompt: null\n", f"\n  prompt: {SEVERAL}\n") == moved, "of the run"


def test_every_setting_has_a_field_with_its_default_and_meaning(service):
    listed = service.settings("toybox", "draft")
    html = settings_form.form(listed, {"export.max_faces": 900})
    dotted = [setting for setting in listed if "." in setting.key]
    assert len(dotted) > 100 and html.count("data-key=") == len(dotted)
    assert 'data-key="export.max_faces" data-default="10000" value="900"' in html
    assert html.count("is-changed") == 1


def test_defaults_are_those_of_a_prompt_of_several_things(service):
    def share(*beside):
        found = service.settings("toybox-mesh", "standard", *beside)
        return {s.key: s.default for s in found}["stages.fine.semantic.scene_share"]

    assert share(SEVERAL) == 0.3
    assert share() == share("a cat") == share(SEVERAL, {"layout": None}) != 0.3
    seen = form_rules.see(service, SEVERAL, "", "toybox-mesh", "standard", 0, {})
    assert seen.boxes == 2 and "scene_share: 0.3" in seen.yaml
    html = settings_form.form(service.settings("toybox", None, SEVERAL), {})
    assert 'data-key="layout' not in html and "scene_share" in html


def test_fields_are_those_of_the_rule_that_was_chosen(service):
    key = "stages.nerf.guidance"
    kept = {f"{key}.name": "csd", f"{key}.scale": 3, "stages.nerf.steps": 9}
    found = service.settings("toybox-nerf", "draft", "a cat", kept)
    default = {setting.key: setting.default for setting in found}
    assert default[f"{key}.name"] == "sds", "that of the recipe"
    assert default[f"{key}.scale"] == 1 and default["stages.nerf.steps"] > 9, "as if not changed"
    assert f"{key}.guidance_scale" not in default
    html = settings_form.form(found, kept, settings_form.group_of(f"{key}.name"))
    assert f'data-key="{key}.scale" data-default="1.0" value="3"' in html
    assert html.count("is-changed") == 3 and html.count("<details") == html.count("<summary") > 1
    assert html.count('<details class="setting-group" open>') == 1
    kept[f"{key}.name"] = "vsd"
    left = settings_form.without_those_of([f"{key}.name"], kept)
    assert left == {f"{key}.name": "vsd", "stages.nerf.steps": 9}
    with pytest.raises(InputError, match="cds"):
        service.settings("toybox-nerf", "draft", "a cat", {f"{key}.name": "cds"})


def test_rows_are_checked_and_bad_ones_say_why(service):
    text = "prompt,seed,export.max_faces\na ball,1,900\na cone,x,900\na cone,2,-5\n"
    rows = batch.rows_of(service, text, ".csv", None)
    assert [bool(row.reason) for row in rows] == [False, True, True]
    assert "seed" in rows[1].reason and "max_faces" in rows[2].reason
    assert rows[0].seconds and "1 row can run" in batch.summary(rows)
    assert "2 cannot" in batch.summary(rows) and "Cannot run" in batch.table_of(service, rows)


@pytest.mark.parametrize(
    ("text", "suffix", "words"),
    [("", ".txt", "no rows"), ("a: [", ".yaml", "YAML"), ("a ball\n" * 201, ".txt", "201 rows")],
)
def test_a_file_without_good_rows_is_refused(service, text, suffix, words):
    with pytest.raises(InputError, match=words):
        batch.rows_of(service, text, suffix, None)


def test_rows_become_ordinary_runs_and_bad_ones_harm_no_other(service):
    rows = batch.rows_of(service, "a ball\n\n# no row\na cone\n", ".txt", None)
    rows.append(batch_record.Batched("a tree", reason="no good", fix="plant another."))
    identity = batch_record.begin(service, "My Batch", rows)
    made = batch_record.queue_rows(service, identity)
    jobs = [service.describe(service.open(row.name)) for row in made[:2]]
    assert [(job.prompt, job.state) for job in jobs] == [("a ball", "queued"), ("a cone", "queued")]
    assert made[2].name == "" and batch_record.load(service, identity) == made
    assert identity in batch_record.known_batches(service)


def test_rows_are_queued_once_though_two_pages_ask_for_it(service):
    rows = batch.rows_of(service, "a ball\na cone\na cube\n", ".txt", None)
    identity = batch_record.begin(service, "twice", rows)
    asked = [
        threading.Thread(target=batch_record.queue_rows, args=(service, identity)) for _ in "ab"
    ]
    service.listing.has_changed()
    before = service.search(limit=1).total
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()
    service.listing.has_changed()
    assert service.search(limit=1).total == before + len(rows)


def test_rows_that_find_the_queue_full_wait_and_are_not_lost(service, monkeypatch):
    rows = batch.rows_of(service, "a ball\na cone\n", ".txt", None)
    identity = batch_record.begin(service, "full", rows)
    waiting = service.listing.count()["queued"]
    monkeypatch.setattr(service.listing, "queue_max", waiting + 1)
    with pytest.raises(TooManyError):
        batch_record.queue_rows(service, identity)
    first, second = batch_record.load(service, identity)
    assert first.name and not second.name and not second.reason
    monkeypatch.setattr(service.listing, "queue_max", None)
    assert batch_record.queue_rows(service, identity)[1].name


def test_batches_of_one_second_have_records_of_their_own_and_none_is_empty(service):
    row = batch_record.Batched("a ball", reason="no good")
    begun = {batch_record.begin(service, "same", [row]) for _ in range(3)}
    assert len(begun) == 3
    with pytest.raises(InputError, match="no rows"):
        batch_record.begin(service, "same", [])


def test_a_batch_goes_on_where_the_server_was_killed(service):
    rows = batch.rows_of(service, "a ball\na cone\n", ".txt", None)
    first = service.submit(rows[0].wish()).root.name
    half = [batch_record.replace(rows[0], name=first), rows[1]]
    identity = batch_record.begin(service, "half", half)
    before = service.search(limit=1).total
    made = batch_record.queue_rows(service, identity)
    assert made[0].name == first and made[1].name
    service.listing.has_changed()
    assert service.search(limit=1).total <= before + 1
    assert batch_record.queue_rows(service, identity) == made


@pytest.mark.parametrize("identity", ["", "nothing", "../x", "a/b", "A B"])
def test_a_batch_that_is_not_there_is_refused(service, identity):
    with pytest.raises(InputError):
        batch_record.load(service, identity)


def test_findings_of_the_doctor_are_shown_problems_first():
    found = [
        {"area": "python", "status": "ok", "detail": "3.11", "fix": ""},
        {"area": "disk", "status": "problem", "detail": "<full>", "fix": "make room."},
    ]
    html = help.report(found)
    assert html.index("disk") < html.index("python") and "&lt;full&gt;" in html
    assert "make room." in html and help.report(None) == ""


@pytest.mark.slow
def test_the_doctor_examines_this_machine_without_stopping_the_page(tmp_path):
    doctor = Doctor(tmp_path)
    doctor.start()
    assert doctor.is_busy and doctor._process is not None
    doctor._process.wait(timeout=300)
    areas = {finding["area"] for finding in doctor.findings or []}
    assert {"python", "torch"} <= {area.lower() for area in areas} and not doctor.is_busy


PART = Part(
    "mesh",
    "representation",
    "dmtet",
    {"stages.mesh.representation.name": "dmtet", "stages.mesh.renderer.name": "mesh"},
    [
        Option("dmtet", {"stages.mesh.representation.name": "dmtet"}),
        Option("hashgrid", {"stages.mesh.representation.name": "hashgrid"}, "it <cannot>.", "try."),
    ],
)
PRIOR = Part(
    "",
    "prior",
    "mvdream",
    {"prior.model": "toybox", "stages.nerf.views": 2},
    [
        Option("toybox", {"prior.model": "toybox"}),
        Option("mvdream", {"prior.model": "mvdream", "stages.nerf.views": 4}, is_here=False),
        Option("sdxl", {"prior.model": "sdxl"}, "latents differ.", "take another."),
        Option("sd3", {"prior.model": "sd3"}, "latents differ.", "take another."),
    ],
)


def test_what_does_not_fit_is_grey_and_says_why():
    html = method.form([PART])
    assert html.count("disabled") == 1 and "it &lt;cannot&gt;." in html and "<cannot>" not in html
    assert "Why 1 is grey" in html and html.count(" checked") == 1 and "Try." in html


def test_what_is_grey_for_one_reason_stands_together_and_what_is_chosen_stays_usable():
    html = method.form([PRIOR, PART])
    assert html.index("All stages") < html.index("Stage: mesh")
    assert html.count("latents differ. <em>Take another.</em>") == 1 and "sdxl, sd3" in html
    assert html.count("<small>download</small>") == 1 and "Why 2 are grey" in html
    refused = method.form([replace(PART, chosen="hashgrid")])
    assert "disabled" not in refused and 'role="alert"' in refused and "Why" not in refused


def test_what_a_prior_brought_goes_with_it():
    kept = {"export.height": 0.5}
    one, several = (option.settings for option in PRIOR.options[:2])
    taken = method.taken(kept, several, PRIOR.own, one)
    assert taken == kept | {"prior.model": "mvdream", "stages.nerf.views": 4}
    assert method.taken(taken, one, PRIOR.own, several) == kept
    early = {"prior.model": "toybox"}  # the form was not listed anew since
    assert method.taken(taken, one, early, several) == kept
    other = taken | {"stages.nerf.views": 8}  # set by hand meanwhile
    assert method.taken(other, one, early, several) == kept | {"stages.nerf.views": 8}
    nothing = {"prior.model": "toybox", "prior.image_size": None}
    assert method.taken(kept, nothing, PRIOR.own, {}) == kept | {"prior.image_size": None}


def test_the_process_that_has_torch_says_what_prior_a_recipe_could_have(service):
    prior, *others = service.parts("toybox-image", "draft", {}, "a ball")
    assert prior.part == "prior" and prior.chosen == "toybox" and len(others) == 2
    grey = {option.name: option for option in prior.options if option.why_not}
    assert list(grey) == ["toybox-views", "mvdream"]
    assert all("makes a picture" in option.why_not for option in grey.values())
    assert "single pictures" in grey["mvdream"].fix and "mvdream" in method.form([prior])


def test_to_go_back_to_the_part_of_the_recipe_leaves_nothing_changed():
    chosen = {"stages.mesh.representation.name": "hashgrid", "stages.mesh.renderer.name": "volume"}
    other = {"export.height": 0.5, "stages.mesh.representation.resolution": 48}
    after = method.taken(other, chosen, PART.own, {})
    assert after == {"export.height": 0.5} | chosen
    assert method.taken(after, PART.own, PART.own, chosen) == {"export.height": 0.5}


def test_no_change_of_a_setting_is_lost_where_one_overtakes_another():
    """The second message comes before the answer to the first is there."""
    page = generate._Page.__new__(generate._Page)

    def take(kept, **changes):
        event = gr.EventData(None, {"changes": changes})
        return page.take_settings("", "toybox", "draft", kept, event)

    before = {"layout.boxes": [], "a.steps": 3}
    first, *_ = take(before, **{"a.views": "4"})
    second, shown, _ = take(before, **{"a.views": "4", "a.steps": None, "b.sizes": "[1, 2]"})
    assert first == before | {"a.views": 4}
    assert second == {"layout.boxes": [], "a.views": 4, "b.sizes": [1, 2]} and "a.views=4" in shown
    kept, problem, _ = take(before, **{"a.views": "[1"})
    assert kept == before and "alert" in problem


def test_a_form_in_the_address_is_the_form_and_what_is_none_is_an_empty_one():
    form = ("a red ball", "blue", "toybox", "high", 7, {"export.max_faces": 900})
    assert form_rules.written(json.dumps(dict(zip(form_rules.FIELDS, form, strict=True)))) == form
    fields = dict(zip(form_rules.FIELDS, form, strict=True))
    for wrong in ({"recipe": "/etc/x.yaml"}, {"quality": []}, {"settings": "x"}, {"prompt": 3}):
        assert form_rules.written(json.dumps(fields | wrong)) == form_rules.BLANK
    assert form_rules.written(json.dumps(fields | {"seed": None}))[4] == 0
    for text in ("", "[", "3", "[]", "{}", "[" * 5000):
        assert form_rules.written(text) == form_rules.BLANK


def test_boxes_are_settings_and_without_them_the_layout_is_the_recipes(service):
    form = layout_form.LayoutForm.__new__(layout_form.LayoutForm)
    form.service = service
    kept, boxes, html, seen = form.take_prompt("a red ball next to a blue cube", {"a.b": 1})
    assert kept == {"a.b": 1, layout_form.BOXES: boxes} and len(boxes) == 2
    assert html.count("<tr data-rest") == 2 and "data:image/png;base64," in seen
    wish = Wish("a red ball next to a blue cube", settings={layout_form.BOXES: boxes})
    assert "a blue cube" in service.check(wish).config_yaml
    boxes[0]["center"] = [0, 3, 0]
    assert "must lie in the cube" in form.look(boxes)
    assert form.take_none(kept)[:2] == [{"a.b": 1}, []]
    without, *_, html, seen = form.take_never(kept)
    assert without == {"a.b": 1, "layout": None} and "whatever" in html and seen == ""
    assert form.take_none(without)[0] == {"a.b": 1}
    assert form.follow(kept, [])[0] == boxes and len(form.follow({}, [])) == 3


def test_a_field_of_a_box_that_is_no_number_is_said(service):
    form = layout_form.LayoutForm.__new__(layout_form.LayoutForm)
    form.service = service
    box = layout_form.NEW_BOX | {"prompt": "a ball", "size": ["x", 1, 1]}
    assert "size" in form.look([box]) and "alert" in form.look([box])
    assert "&quot;&gt;" in layout_form.table([box | {"prompt": '">'}])


def test_rows_that_were_changed_since_they_were_checked_are_not_queued(service):
    page = batch._Page.__new__(batch._Page)
    page.service = service
    before = batch_record.known_batches(service)
    form = ("a ball\n", ".txt", None)
    found, checked, *_ = page.look(*form)
    name, failed = page.queue(found, checked, "a ball\na cone\n", ".txt", None)
    assert not name and "changed" in failed and batch_record.known_batches(service) == before
    name, failed = page.queue(found, checked, *form)
    assert name and not failed and batch_record.load(service, name)[0].name


def test_rows_are_queued_once_though_two_servers_go_on_with_them(service):
    good = batch_record.Batched("a ball", recipe="toybox", quality="draft")
    identity = batch_record.begin(service, "two servers", [good])
    path = batch_record._path(service, identity).with_suffix(".lock")
    with lock.hold(path):  # as the other server does
        (row,) = batch_record.queue_rows(service, identity)
    assert not row.name and not row.reason
    (row,) = batch_record.queue_rows(service, identity)
    assert row.name and identity in batch_record.known_batches(service)
