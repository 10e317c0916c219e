"""Claims about the Python client, against a server on a real port."""

import socket
import threading
import time

import pytest
import uvicorn
from glb_bytes import glb
from queued_runs import queued_run

import dreamlab
from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import write_text
from dreamlab.jobs import state
from dreamlab.web import client as client_module
from dreamlab.web.client import ClientError
from dreamlab.web.security import Access
from dreamlab.web.server import ServerSettings, bind, build_app

TOKEN = "0123456789-token"


@pytest.fixture(scope="module")
def address(service):
    """A server in a thread, as `dreamlab serve` runs it, with a token."""
    settings = ServerSettings(Access(token=TOKEN), port=0, has_pages=False)
    listener = bind(settings)
    app = build_app(service, settings)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)
    listener.close()
    assert not thread.is_alive()


@pytest.fixture
def client(address) -> dreamlab.Client:
    return dreamlab.Client(address, token=TOKEN)


def test_a_run_is_submitted_changed_and_deleted(client):
    assert client.health().name == "dreamlab"
    job = client.submit("a red mushroom", quality="draft", settings={"export.max_faces": 700})
    assert (job.state, job.quality) == ("queued", "draft") and client.job(job.name) == job
    assert client.check("a red mushroom").unknown_words == {}
    assert client.rerun(job.name, seed=4).seed == 4
    assert client.act(job.name, "favourite").favourite
    assert client.set_priority(job.name, 3).priority == 3
    page = client.jobs("mushroom", states=["queued"], favourites=True, order="oldest", limit=1)
    assert page.jobs == [client.job(job.name)] and page.total == 1
    client.delete(job.name)
    with pytest.raises(ClientError, match="no run") as caught:
        client.job(job.name)
    assert caught.value.status == 404


def test_what_there_is_to_use_is_listed(client, tmp_path):
    assert "toybox" in [recipe.name for recipe in client.recipes()]
    assert "export.max_faces" in [setting.key for setting in client.settings("toybox", "draft")]
    model = tmp_path / "model.glb"
    model.write_bytes(glb())
    assert len(client.upload(model)) == 32


def test_a_run_is_followed_while_it_happens(client, service, monkeypatch):
    monkeypatch.setattr(client_module, "POLL_SECONDS", 0.05)
    run = queued_run(service.runs, "followed")

    def work() -> None:
        with state.held(run):
            state.begin(run, is_queued=True)
            for step in range(3):
                time.sleep(0.3)
                run.append_event("step", stage="x", step=step)
            write_text(run.exports / "model.glb", "a model")
            state.finish(run, "done")

    worker = threading.Thread(target=work)
    worker.start()
    events = list(client.events(run.root.name))
    worker.join()
    assert [event.kind for event in events] == ["step", "step", "step", "end"]
    assert [event.number for event in events] == [1, 2, 3, None]
    assert events[-1].values["state"] == "done"
    assert [e.number for e in client.events(run.root.name, since=2)] == [3, None]


def test_waiting_ends_when_the_run_comes_to_rest_or_the_time_is_over(client, service, monkeypatch):
    monkeypatch.setattr(client_module, "POLL_SECONDS", 0.05)
    run = queued_run(service.runs, "waited for")
    with pytest.raises(ClientError, match="longer"):
        client.wait(run.root.name, timeout=0.1)
    seen: list[str] = []
    client.act(run.root.name, "cancel")
    job = client.wait(run.root.name, on_change=lambda job: seen.append(job.state))
    assert job.state == "cancelled" and seen == ["cancelled"]


def test_files_are_fetched_into_a_folder(client, service, tmp_path):
    run = queued_run(service.runs, state="done")
    write_text(run.exports / "model.glb", "a model")
    made = client.download(run.root.name, tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in made) == [
        "config.yaml",
        "exports/model.glb",
    ]
    assert (tmp_path / "exports/model.glb").read_text() == "a model"


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "c:x", "a\\..\\x"])
def test_a_server_cannot_write_elsewhere(client, monkeypatch, tmp_path, path):
    file = client_module.FileView(path, 1, "text/plain", "")
    monkeypatch.setattr(client, "files", lambda name: [file])
    with pytest.raises(ClientError, match="names a file"):
        client.download("any", tmp_path)


def test_what_the_server_refuses_is_raised_with_its_fix(client, address):
    with pytest.raises(ClientError, match="max_fces") as caught:
        client.submit("a ball", settings={"export.max_fces": 1})
    assert caught.value.status == 400 and "max_faces" in caught.value.fix
    with pytest.raises(ClientError, match="token") as caught:
        dreamlab.Client(address, token="wrong").health()
    assert caught.value.status == 401


def test_an_address_without_a_server_says_what_to_start(monkeypatch, address):
    nobody = dreamlab.Client("http://127.0.0.1:9")
    with pytest.raises(ClientError, match="does not answer") as caught:
        nobody.health()
    assert "dreamlab serve" in caught.value.fix and caught.value.status is None
    monkeypatch.setattr(client_module, "RETRY_SECONDS", 0.0)
    with pytest.raises(ClientError, match="does not answer"):
        list(nobody.events("any"))
    for url in ("", "127.0.0.1:7860", "ftp://x", "file:///etc/passwd"):
        with pytest.raises(InputError, match="no address"):
            dreamlab.Client(url)


def test_the_body_of_an_answer_does_not_wait_until_the_head_is_acknowledged():
    with (
        bind(ServerSettings(port=0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
