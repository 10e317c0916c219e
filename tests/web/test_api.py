"""Claims about the HTTP API: what is asked for happens, and what is refused says why."""

import io
import json
import os
import zipfile
from dataclasses import asdict, fields

import pytest
from glb_bytes import glb

from dreamlab.core.config import load_yaml
from dreamlab.core.run_folder import write_text
from dreamlab.jobs import state
from dreamlab.jobs.queue import actions
from dreamlab.web import listing
from dreamlab.web.views import JobView

JOBS = "/api/v1/jobs"
STEP = {"stage": "mesh", "step": 25, "steps": 100, "loss": 1.0, "metrics": {}, "rate": 1.0}


def refusal(answer, status: int) -> str:
    """What an answer says is wrong; it has the one shape that errors have."""
    assert answer.status_code == status, answer.text
    (error,) = answer.json().values()
    assert set(error) == {"message", "fix"} and error["message"] and error["fix"]
    return error["message"]


def test_a_run_is_checked_submitted_repeated_and_shown(web, service):
    wish = {
        "prompt": "a red mushroom zzz",
        "quality": "draft",
        "settings": {"export.max_faces": 700},
    }
    checked = web.post("/api/v1/check", json=wish).json()
    assert set(checked) == {"config_yaml", "unknown_words", "objects", "estimate"}
    assert "max_faces: 700" in checked["config_yaml"] and set(checked["unknown_words"]) == {"zzz"}
    assert checked["estimate"]["seconds"] > 0 and checked["objects"] == []
    several = web.post("/api/v1/check", json={"prompt": "a cat next to a red cube"}).json()
    assert several["objects"] == ["a cat", "a red cube"]

    answer = web.post(JOBS, json=wish | {"seed": 3, "priority": 2, "negative_prompt": "blue"})
    assert answer.status_code == 201
    job = answer.json()
    assert set(job) == {field.name for field in fields(JobView)}
    assert (job["state"], job["seed"], job["priority"], job["quality"]) == ("queued", 3, 2, "draft")
    assert job["negative_prompt"] == "blue" and job["progress"] == 0.0
    assert web.get(job["url"]).json() == job

    again = web.post(f"{job['url']}/rerun", json={"seed": 5, "settings": {"export.height": 2.0}})
    assert again.status_code == 201
    config = load_yaml(service.runs / again.json()["name"] / "config.yaml")
    assert (config["seed"], config["export"]["height"]) == (5, 2.0)
    assert config["export"]["max_faces"] == 700 and config["prompt"] == wish["prompt"]


def test_a_run_can_start_from_an_uploaded_model_if_its_recipe_can(web, service):
    model = web.post("/api/v1/models", content=glb())
    assert model.status_code == 201
    wish = {"prompt": "a cube", "recipe": "toybox-texture", "model": model.json()["id"]}
    job = web.post(JOBS, json=wish).json()
    config = load_yaml(service.runs / job["name"] / "config.yaml")
    assert config["stages"]["texture"]["start_from"].endswith(f"{model.json()['id']}.glb")
    again = web.post(f"{job['url']}/rerun", json={"seed": 1})  # what it began with is no news
    assert again.status_code == 201
    answer = web.post("/api/v1/check", json=wish | {"recipe": "toybox-nerf"})
    assert "cannot become a mesh" in refusal(answer, 400)
    assert "no model" in refusal(web.post(JOBS, json=wish | {"model": "../x"}), 404)
    assert "refused" in refusal(web.post("/api/v1/models", content=b"PK\3\4"), 400)
    assert "start_from" in refusal(
        web.post(f"{job['url']}/rerun", json={"settings": {"stages.texture.start_from": "a.glb"}}),
        400,
    )


def test_a_run_is_exported_again_by_the_queue_or_it_is_said_why_not(web, service, new_run):
    run = new_run("a ball", state="done")
    address = f"{JOBS}/{run.root.name}/export"
    config = web.post("/api/v1/check", json={"prompt": "a ball"}).json()["config_yaml"]
    write_text(run.config, config)
    assert "no checkpoint" in refusal(web.post(address, json={}), 400)
    (run.checkpoints / "last.safetensors").write_bytes(b"not looked into")
    for settings, word in (
        ({"export.max_faces": 3}, "max_faces"),
        ({"export.formats": ["dae"]}, "dae"),
        ({"stages.mesh.steps": 3}, "export."),
    ):
        assert word in refusal(web.post(address, json={"settings": settings}), 400)
    assert state.read(run).state == "done"
    answer = web.post(address, json={"settings": {"export.formats": ["stl"]}})
    assert answer.status_code == 202 and answer.json()["state"] == "queued"
    assert "queued" in refusal(web.post(address, json={}), 400)
    actions.request(run, "cancel")
    assert state.read(run).state == "done"


BAD = [
    {},
    {"prompt": ""},
    {"prompt": 3},
    {"prompt": "x" * 1001},
    {"prompt": "two\nlines"},
    {"prompt": "${oc.env:HOME}"},
    {"prompt": "\ud800"},
    {"prompt": "a ball", "seed": 1.5},
    {"prompt": "a ball", "seed": True},
    {"prompt": "a ball", "seed": 2**63},
    {"prompt": "a ball", "quality": "perfect"},
    {"prompt": "a ball", "recipe": "../toybox.yaml"},
    {"prompt": "a ball", "unknown": 1},
    {"prompt": "a ball", "settings": [1]},
    {"prompt": "a ball", "settings": {"export.max_fces": 700}},
    {"prompt": "a ball", "settings": {"export.max_faces": "many"}},
    {"prompt": "a ball", "settings": {"export.height": float("nan")}},
    {"prompt": "a ball", "settings": {"export.height": float("inf")}},
    {"prompt": "a ball", "settings": {"export.unwrap": "!!python/object/apply:os.getcwd []"}},
    {"prompt": "a ball", "settings": {"stages.mesh.start_from": "/etc/passwd"}},
    {"prompt": "a ball", "settings": {"stages.nose.steps": 3}},
    {"prompt": "a ball", "settings": {"prior.model": "elsewhere"}},
    {"prompt": "a ball", "settings": {"seed": 3}},
]


@pytest.mark.parametrize("wish", BAD, ids=lambda wish: json.dumps(wish)[:60])
def test_a_wish_that_is_wrong_is_refused_with_the_reason(web, service, wish):
    content = json.dumps(wish)  # with NaN and Infinity, as Python writes them
    before = set(service.runs.iterdir())
    for path in ("/api/v1/check", JOBS):
        headers = {"content-type": "application/json"}
        refusal(web.post(path, content=content, headers=headers), 400)
    assert {item.name for item in set(service.runs.iterdir()) - before} <= {".index.sqlite-wal"}


def test_bodies_that_are_no_json_are_refused(web):
    for content in (b"", b"{", b"\xff", b"[" * 200_000, b'{"seed": ' + b"9" * 5000 + b"}", b"null"):
        answer = web.post(JOBS, content=content, headers={"content-type": "application/json"})
        refusal(answer, 400)


def test_runs_are_found_page_by_page(web, new_run):
    names = [new_run(f"needle {i}", i, priority=i).root.name for i in range(5)]
    page = web.get(f"{JOBS}?words=needle&limit=2&offset=1&order=queue").json()
    assert page["total"] == 5
    assert [job["name"] for job in page["jobs"]] == [names[3], names[2]]
    web.post(f"{JOBS}/{names[0]}/favourite")
    assert web.get(f"{JOBS}?words=needle&favourites=true").json()["total"] == 1
    web.post(f"{JOBS}/{names[1]}/cancel")
    assert web.get(f"{JOBS}?words=needle&state=cancelled,failed&state=paused").json()["total"] == 1
    for query in (
        "state=nope",
        "order=nope",
        "limit=0",
        "limit=201",
        "offset=-1",
        "words=" + "a " * 200,
    ):
        refusal(web.get(f"{JOBS}?{query}"), 400)


def test_actions_change_runs_or_are_refused_in_their_state(web, new_run):
    run = new_run()
    url = f"{JOBS}/{run.root.name}"
    act = lambda action: web.post(f"{url}/{action}")  # noqa: E731
    assert act("pause").json()["state"] == "paused"
    assert "paused" in refusal(act("stop"), 409)
    assert act("resume").json()["state"] == "queued"
    assert act("favourite").json()["favourite"] and not act("unfavourite").json()["favourite"]
    assert web.post(f"{url}/priority", json={"priority": 7}).json()["priority"] == 7
    copy = act("duplicate").json()
    assert copy["name"] != run.root.name and copy["state"] == "queued"
    assert act("cancel").json()["state"] == "cancelled"
    refusal(act("explode"), 400)
    refusal(web.post(f"{url}/priority", json={"priority": "high"}), 400)
    with state.held(run):
        refusal(web.delete(url), 409)
        refusal(act("resume"), 409)
    assert web.delete(url).status_code == 204
    refusal(web.get(url), 404)
    refusal(web.delete(url), 404)
    refusal(act("stop"), 404)


def test_a_full_queue_takes_no_more(service, new_run, monkeypatch, web):
    run = new_run()
    waiting = service.listing.count()["queued"]
    monkeypatch.setattr(service.listing, "queue_max", waiting)
    assert "waiting" in refusal(web.post(f"{JOBS}/{run.root.name}/duplicate"), 429)
    refusal(web.post(JOBS, json={"prompt": "a ball"}), 429)
    refusal(web.post(f"{JOBS}/{run.root.name}/rerun", json={}), 429)
    monkeypatch.setattr(service.listing, "queue_max", waiting + 1)
    assert web.post(f"{JOBS}/{run.root.name}/duplicate").status_code == 200
    refusal(web.post(f"{JOBS}/{run.root.name}/duplicate"), 429)


def test_a_run_at_work_shows_how_far_it_is(web, new_run):
    run = new_run()
    write_text(
        run.config, "prompt: a ball\nstages: {gaussians: {steps: 300}, mesh: {steps: 100}}\n"
    )
    url = f"{JOBS}/{run.root.name}"
    with state.held(run):
        state.begin(run, is_queued=True)
        state.enter_phase(run, "mesh")
        run.append_event("step", eta=75.0, **STEP)
        run.append_event("preview", path="previews/000025.webp")
        job = web.get(url).json()
        assert (job["phase"], job["step"], job["steps"]) == ("mesh", 25, 100)
        assert (job["progress"], job["eta_s"]) == (pytest.approx(0.9 * 325 / 400, abs=1e-4), 75.0)
        assert job["begun"] >= job["created"] and job["ended"] is None
        assert actions.request(run, "stop").state == "running"
    assert web.get(url).json()["state"] == "failed"  # its process has let go without a word
    with state.held(run):
        state.finish(run, "done")
    job = web.get(url).json()
    assert (job["state"], job["progress"], job["eta_s"]) == ("done", 1.0, None)


def stream(answer) -> list[dict[str, str]]:
    """The events of a stream."""
    blocks = [block for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def test_events_are_numbered_lines_and_end_with_the_record(web, new_run):
    run = new_run(state="done")
    run.append_event("phase", phase="load prior", steps=None)
    with open(run.events, "ab") as file:
        file.write(b'half a line\n{"kind": "bad kind"}\n[1]\n')
    run.append_event("step", text="\u2028 \n\ndata: x", **STEP)
    url = f"{JOBS}/{run.root.name}/events"
    events = stream(web.get(url))
    assert [(e["event"], e.get("id")) for e in events] == [
        ("phase", "1"),
        ("step", "5"),
        ("end", None),
    ]
    assert json.loads(events[1]["data"])["text"] == "\u2028 \n\ndata: x"
    assert json.loads(events[-1]["data"]) == web.get(f"{JOBS}/{run.root.name}").json()
    for headers, query in (({"last-event-id": "1"}, ""), ({}, "?since=4")):
        assert [e["event"] for e in stream(web.get(url + query, headers=headers))] == [
            "step",
            "end",
        ]
    refusal(web.get(url, headers={"last-event-id": "x"}), 400)


def test_files_are_listed_fetched_in_parts_and_packed(web, new_run):
    run = new_run(state="done")
    write_text(run.exports / "model.glb", "0123456789")
    write_text(run.report, "{}")
    root = f"{JOBS}/{run.root.name}"
    files = {file["path"]: file for file in web.get(f"{root}/files").json()}
    assert list(files) == ["report.json", "config.yaml", "exports/model.glb"]
    glb_file = files["exports/model.glb"]
    assert (glb_file["size"], glb_file["media_type"]) == (10, "model/gltf-binary")
    part = web.get(glb_file["url"], headers={"range": "bytes=2-4"})
    assert (part.status_code, part.text) == (206, "234")
    with zipfile.ZipFile(io.BytesIO(web.get(f"{root}/archive").content)) as archive:
        assert archive.testzip() is None
        assert archive.read(f"{run.root.name}/exports/model.glb") == b"0123456789"
        assert len(archive.namelist()) == 3


def test_recipes_and_their_settings_are_described(web):
    recipes = {recipe["name"]: recipe for recipe in web.get("/api/v1/recipes").json()}
    assert recipes["toybox"]["representation"] == "gaussians → dmtet"
    assert recipes["toybox"]["qualities"] == ["draft", "standard", "high"]
    found = web.get("/api/v1/recipes/toybox/settings?quality=draft").json()
    settings = {setting["key"]: setting for setting in found}
    faces = settings["export.max_faces"]
    assert faces["type"] == "integer" and faces["default"] > 0 and faces["doc"]
    assert settings["stages.mesh.surface"]["choices"] == ["density", "tsdf"]
    assert settings["export.threshold"]["type"] == "number or none"
    refusal(web.get("/api/v1/recipes/nope/settings"), 404)


def test_the_description_has_examples_and_promises_what_is_answered(web):
    schema = web.get("/openapi.json").json()
    assert schema["components"]["schemas"]["Submission"]["examples"]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert "422" not in operation["responses"] and "400" in operation["responses"]


def test_looking_at_runs_does_not_touch_every_folder(service, new_run, monkeypatch):
    made = [new_run(f"quick {i}") for i in range(20)]
    service.search("quick")
    looked: list[str] = []
    real = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, *a, **k: looked.append(str(path)) or real(path, *a, **k)
    )
    monkeypatch.setattr(os, "scandir", lambda path: pytest.fail("looked at all folders"))
    page = service.search("quick", limit=3)
    assert page.total == 20 and len(page.entries) == 3
    assert not [path for path in looked if made[0].root.parent.name in path and "-quick-" in path]


def test_what_has_not_changed_is_not_read_again(service, new_run, monkeypatch):
    run = new_run(state="done")
    first = service.describe(run)
    with monkeypatch.context() as patched:
        patched.setattr(state, "read", lambda folder: pytest.fail("read again"))
        assert service.describe(run) is first
    service.act(run, "favourite")
    assert asdict(service.describe(run)) == asdict(first) | {"favourite": True}


def test_a_record_that_has_not_changed_is_answered_without_the_application(
    web, service, new_run, monkeypatch
):
    run = new_run("asked for often", state="done")
    url = f"{JOBS}/{run.root.name}"
    first = web.get(url)
    assert first.json() == asdict(service.describe(run))
    with monkeypatch.context() as patched:
        patched.setattr(service, "open", lambda name: pytest.fail("went to the application"))
        again = web.get(url)
        assert again.content == first.content and again.headers == first.headers
        tag = {"if-none-match": f'"other", {first.headers["etag"]}'}
        same = web.get(url, headers=tag)
        assert (same.status_code, same.content) == (304, b"")
    service.act(run, "favourite")
    changed = web.get(url, headers=tag)
    assert changed.json()["favourite"] and changed.headers["etag"] != first.headers["etag"]
    run.job.unlink()
    refusal(web.get(url, headers=tag), 404)


def test_what_stands_before_the_application_lets_nobody_in(web, secured, new_run):
    url = f"{JOBS}/{new_run('a secret', state='done').root.name}"
    for _ in range(2):  # the second time it is remembered
        assert web.get(url).status_code == 200
        refusal(secured.get(url), 401)
        refusal(web.get(url, headers={"host": "evil.example"}), 403)


def test_a_page_of_the_list_holds_the_records(web, new_run):
    made = [new_run(f"listed {i}", i) for i in range(3)]
    page = web.get(f"{JOBS}?words=listed&order=oldest").json()
    records = [web.get(f"{JOBS}/{run.root.name}").json() for run in made]
    assert page == {"total": 3, "jobs": records}


def test_a_damaged_run_is_shown_as_failed_and_harms_no_other(web, new_run):
    run = new_run("damaged goods")
    run.job.write_text("{")
    run.config.write_text("stages: [")
    job = web.get(f"{JOBS}/{run.root.name}").json()
    assert job["state"] == "failed" and "cannot be read" in job["reason"] and job["fix"]
    assert web.get(f"{JOBS}?limit=200").status_code == 200


def test_a_list_asked_for_again_is_answered_without_the_application_until_something_changes(
    web, service, new_run, monkeypatch
):
    monkeypatch.setattr(listing, "REFRESH_SECONDS", 600.0)
    run = new_run("asked again", state="done")
    url = f"{JOBS}?words=asked+again&limit=3"
    first = web.get(url)
    assert first.json()["total"] == 1
    with monkeypatch.context() as patched:
        patched.setattr(service, "search", lambda *_, **__: pytest.fail("went to the application"))
        again = web.get(url)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    service.act(run, "favourite")
    assert web.get(url).json()["jobs"][0]["favourite"]
    new_run("asked again, another")
    service.listing.has_changed()
    assert web.get(url).json()["total"] == 2
    refusal(web.get(f"{url}&limit=x"), 400)
    service.listing.has_changed()


def test_only_the_name_of_a_run_is_a_short_way_to_its_record(web, service, new_run):
    run = new_run(state="done")
    name = run.root.name
    assert web.get(f"{JOBS}/{name}").status_code == 200
    for other in (f"{name}/", f"./{name}", f"{name}/.", str(run.root)):
        assert service.unchanged(other) is None, other
    assert service.unchanged(name) is not None


def test_a_change_during_a_look_at_the_folders_is_seen_by_the_next_one(
    service, new_run, monkeypatch
):
    runs = listing.Listing(service.runs)
    refresh = runs.index.refresh
    waiting = runs.count().get("queued", 0)

    def refresh_slowly() -> None:
        refresh()
        new_run("came meanwhile")
        runs.has_changed()

    with monkeypatch.context() as patched:
        patched.setattr(runs.index, "refresh", refresh_slowly)
        runs.has_changed()
        runs.count()
    assert runs.count()["queued"] == waiting + 1
