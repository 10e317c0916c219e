"""Claims about who may do what, each tried the way somebody who may not would."""

import os
import re
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import write_text
from dreamlab.web import security
from dreamlab.web.security import Access

TOKEN = "0123456789-token"
EVERYWHERE = "0.0.0.0"
SECRET = "the secret"


def test_a_name_that_somebody_else_gave_this_machine_is_refused(web):
    for host in (
        "evil.example",
        "evil.example:7860",
        "127.0.0.1.evil.example",
        "",
        "[::",
        "0.0.0.0",
    ):
        answer = web.get("/api/v1/health", headers={"host": host})
        assert answer.status_code == 403 and set(answer.json()["error"]) == {"message", "fix"}


def test_the_names_of_this_machine_are_taken(web, secured):
    for host in ("localhost", "localhost:7860", "127.0.0.1:1", "[::1]:7860"):
        assert web.get("/api/v1/health", headers={"host": host}).status_code == 200
    own = {"host": "any.example", "authorization": f"Bearer {TOKEN}"}
    assert secured.get("/api/v1/health", headers=own).status_code == 200


FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "http://127.0.0.1:9999"},
    {"origin": "null"},
    {"origin": "http://[::"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("kind", ["web", "secured"])
def test_another_site_cannot_change_anything(request, new_run, kind):
    run, client = new_run(), request.getfixturevalue(kind)
    for foreign in FOREIGN:
        headers = foreign | {"authorization": f"Bearer {TOKEN}"}
        for method, path in (("POST", "/cancel"), ("POST", "/duplicate"), ("DELETE", "")):
            path = f"/api/v1/jobs/{run.root.name}{path}"
            assert client.request(method, path, headers=headers).status_code == 403
    assert client.get(f"/api/v1/jobs/{run.root.name}", headers=headers).json()["state"] == "queued"


def test_the_page_of_the_server_itself_may(web, new_run):
    own = {"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"}
    path = f"/api/v1/jobs/{new_run().root.name}/cancel"
    assert web.post(path, headers=own).json()["state"] == "cancelled"


def test_no_site_is_told_that_it_may_read(web):
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for method in ("OPTIONS", "GET"):
        answer = web.request(method, "/api/v1/jobs", headers=asked)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"


@pytest.mark.parametrize("path", ["/api/v1/health", "/docs", "/openapi.json", "/", "/api/v1/jobs"])
def test_without_the_token_nothing_is_shown(secured, path):
    right = [f"Bearer {TOKEN}", f"bearer  {TOKEN}", basic("anybody", TOKEN)]
    for shown in [*right, basic("anna", "a-long-password")]:
        assert secured.get(path, headers={"authorization": shown}).status_code == 200
    wrong = ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Token {TOKEN}", "Basic %%"]
    wrong += ["Basic " + "A" * 9, "Bearer \xff", "Bearer a-long-password", basic("bob", "x" * 9)]
    wrong += [basic("bob", "a-long-password"), basic("anna", ""), basic("anna", "wrong")]
    for shown in wrong:
        answer = secured.get(path, headers={"authorization": shown.encode("latin-1")})
        assert answer.status_code == 401, shown
        kind = "Bearer" if "/api/" in path else "Basic"
        assert answer.headers["www-authenticate"].startswith(kind)


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def test_secrets_are_compared_in_constant_time(monkeypatch):
    compared: list[tuple[bytes, bytes]] = []
    compare = lambda a, b: compared.append((a, b)) or a == b  # noqa: E731
    monkeypatch.setattr(security.hmac, "compare_digest", compare)
    assert not Access(token=TOKEN).lets_in("Bearer no")
    assert compared == [(b"no", TOKEN.encode())]


def test_an_address_that_others_reach_needs_a_secret():
    with pytest.raises(InputError, match="could use this machine"):
        Access(EVERYWHERE)
    Access(EVERYWHERE, is_open=True)
    Access(EVERYWHERE, TOKEN)
    with pytest.raises(InputError, match="7 characters"):
        Access(EVERYWHERE, "1234567")
    with pytest.raises(InputError, match="go together"):
        Access(user="anna")


@pytest.fixture
def run_with_secrets(tmp_path, new_run):
    """A run beside files that must not be had, with links to them."""
    run = new_run(state="done")
    write_text(tmp_path / "secret.txt", SECRET)
    write_text(run.exports / "model.glb", "a model")
    write_text(run.checkpoints / "last.safetensors", SECRET)
    write_text(run.root / "worker.txt", SECRET)
    (run.exports / "link.glb").symlink_to(tmp_path / "secret.txt")
    (run.exports / ".hidden.glb").write_text(SECRET)
    (run.exports / "folder").mkdir()
    (run.exports / "folder" / "deep.txt").write_text(SECRET)
    (run.root / "preview.png").symlink_to(tmp_path / "secret.txt")
    run.previews.rmdir()
    run.previews.symlink_to(tmp_path)
    return run


ESCAPES = [
    "../../secret.txt",
    "exports/../../../secret.txt",
    "exports/../config.yaml",
    "exports//../../../secret.txt",
    "/etc/passwd",
    "exports/link.glb",
    "exports/.hidden.glb",
    "exports/folder/deep.txt",
    "exports/folder",
    "exports",
    "exports/",
    "preview.png",
    "previews/secret.txt",
    "checkpoints/last.safetensors",
    "worker.txt",
    "job.json",
    "events.jsonl",
    "exports\\..\\..\\..\\secret.txt",
    "exports/model.glb\0",
    "exports/model.glb/",
    "./exports/model.glb",
    "",
    ".",
    "..",
]


@pytest.mark.parametrize("times", [0, 1, 2])
def test_no_path_leads_out_of_what_is_meant_for_users(get_raw, run_with_secrets, times):
    for path in ESCAPES:
        for _ in range(times):
            path = quote(path, safe="")
        path = path.replace("\0", "%00").replace("\\", "%5C")
        status, body = get_raw(f"/api/v1/jobs/{run_with_secrets.root.name}/files/{path}")
        assert status == 404, path
        assert SECRET.encode() not in body and b"a model" not in body


def test_what_is_listed_can_be_had_and_nothing_else_is_listed(web, run_with_secrets):
    root = f"/api/v1/jobs/{run_with_secrets.root.name}"
    files = web.get(f"{root}/files").json()
    assert [file["path"] for file in files] == ["config.yaml", "exports/model.glb"]
    assert web.get(files[1]["url"]).text == "a model"
    assert SECRET.encode() not in web.get(f"{root}/archive").content


def test_no_name_leads_out_of_the_folder_of_runs(get_raw, service):
    write_text(service.runs.parent / "config.yaml", SECRET)  # a run, if it were inside
    for name in ("..", ".", "", "%2e%2e", "..%2f..", "%00", "a%2fb", ".models", "~", "%ff", "%0a"):
        for rest in ("", "/files", "/archive", "/events", "/files/config.yaml"):
            status, body = get_raw(f"/api/v1/jobs/{name}{rest}")
            assert status in (404, 405, 307) or (not name and not rest), (name, rest)
            assert SECRET.encode() not in body


def test_a_link_is_no_run(web, new_run, tmp_path):
    run = new_run()
    parent = run.root.parent
    (parent / "link").symlink_to(run.root)
    (parent / "up").symlink_to(tmp_path)
    (parent / "empty").mkdir()
    for name in ("link", "up", "empty"):
        assert web.get(f"/api/v1/jobs/{name}").status_code == 404
        assert web.delete(f"/api/v1/jobs/{name}").status_code == 404
    assert run.job.exists()
    (parent / "link").unlink()
    (parent / "up").unlink()


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("says_so", [True, False])
def test_a_body_that_is_too_large_is_not_read(web, says_so):
    sent = []

    def pieces():
        for _ in range(64):
            sent.append(1)
            yield b" " * 2**16

    content = b" " * (security.MAX_BODY + 1) if says_so else pieces()
    answer = web.post("/api/v1/jobs", content=content, headers=JSON)
    assert answer.status_code == 413 and "too large" in answer.json()["error"]["message"]


def test_a_length_that_is_none_is_refused(web):
    for length in ("-1", "1e3", "9" * 30, "x"):
        headers = JSON | {"content-length": length}
        assert web.post("/api/v1/jobs", headers=headers).status_code == 413


def test_a_space_gets_the_gradio_that_was_tested():
    root = Path(__file__).parents[2]
    told = re.search(r"sdk_version: (\S+)", (root / "docs" / "web.md").read_text())
    assert told is not None and f"gradio=={told[1]}" in (root / "constraints.txt").read_text()


def test_the_server_loads_no_torch():
    code = (
        "import sys, dreamlab.web.server, dreamlab.web.client, dreamlab.jobs.queue.presence\n"
        "loaded = {'torch', 'diffusers', 'gradio', 'trimesh', 'warp'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=dict(os.environ))


def test_the_client_loads_the_standard_library_alone():
    code = (
        "import sys, dreamlab; dreamlab.Client\n"
        "loaded = {'torch', 'fastapi', 'httpx', 'numpy', 'yaml'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
