"""Claims about how the extension asks a server."""

import json
import socket
import time

import pytest
from api_double import ApiDouble
from dreamlab_extension import client as client_module
from dreamlab_extension.client import Client, ServerError, authorization, full_address, is_loopback

from dreamlab.web.security import Access


@pytest.fixture
def server():
    with ApiDouble(b"glTF model") as double:
        yield double


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        (" localhost:7860/ ", "http://localhost:7860"),
        ("https://gpu.example/dreamlab", "https://gpu.example/dreamlab"),
        ("http://[::1]:80/api/v1", "http://[::1]:80"),
    ],
)
def test_addresses_are_completed(typed, full):
    assert full_address(typed) == full


@pytest.mark.parametrize("typed", ["", "ftp://x", "file:///etc/passwd", "host:port", "http://"])
def test_what_is_no_address_is_refused_with_an_example(typed):
    with pytest.raises(ServerError, match=r"http://127\.0\.0\.1") as caught:
        full_address(typed)
    assert repr(typed) in caught.value.message


def test_only_this_computer_is_loopback():
    assert is_loopback("http://127.0.0.1:1") and is_loopback("http://[::1]:80")
    assert not is_loopback("http://10.0.0.1") and not is_loopback("http://localhost.example")


def test_a_run_is_submitted_looked_at_and_fetched(server, tmp_path):
    client = Client(server.address)
    assert client.health()["name"] == "dreamlab"
    assert [recipe["name"] for recipe in client.recipes()] == ["toybox", "toybox-texture"]
    job = client.submit(prompt="a red mushroom", recipe="toybox", seed=3)
    assert server.jobs[job["name"]]["seed"] == 3
    while (job := client.job(job["name"]))["state"] != "done":
        pass
    assert "exports/model.glb" in client.files(job["name"])
    path = client.download(job["name"], "exports/model.glb", tmp_path / "model.glb")
    assert path.read_bytes() == b"glTF model"
    assert [path.name for path in tmp_path.iterdir()] == ["model.glb"]
    assert [run["name"] for run in client.jobs(5)] == [job["name"]]


def test_names_cannot_leave_their_place_in_a_path(server):
    with pytest.raises(ServerError):
        Client(server.address).job("../recipes?x=1#y")
    assert server.asked[-1][1] == "/api/v1/jobs/..%2Frecipes%3Fx%3D1%23y"


def test_a_model_is_sent_as_it_is_and_a_large_one_is_not(server, tmp_path, monkeypatch):
    path = tmp_path / "model.glb"
    path.write_bytes(b"glTF" + bytes(range(256)))
    assert Client(server.address).upload_model(path) == "model-1"
    assert server.models == [path.read_bytes()]
    monkeypatch.setattr(client_module, "MAX_MODEL_BYTES", 100)
    with pytest.raises(ServerError, match="Simplify"):
        Client(server.address).upload_model(path)
    assert len(server.models) == 1


def test_a_server_is_given_time_for_what_it_has_to_do_and_a_slow_one_is_not_called_absent(
    monkeypatch,
):
    monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(client_module, "LONG_SECONDS", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}")
        for ask, least in ((client.health, 0.1), (lambda: client.submit(prompt="x"), 0.6)):
            begin = time.monotonic()
            with pytest.raises(ServerError, match=r"in time.*try again") as caught:
                ask()
            assert caught.value.may_pass and least <= time.monotonic() - begin < least + 0.5
    with pytest.raises(ServerError, match="No server answers"):
        client.health()


def test_the_servers_own_words_arrive(server):
    with pytest.raises(ServerError) as caught:
        Client(server.address).submit(prompt="x", recipe="tyobox")
    assert caught.value.message == "There is no recipe 'tyobox'."
    assert caught.value.fix == "Did you mean toybox?"
    assert caught.value.status == 400 and not caught.value.may_pass


def test_the_token_opens_the_door():
    with ApiDouble(token="secret") as server:
        with pytest.raises(ServerError) as caught:
            Client(server.address).health()
        assert caught.value.status == 401 and "token" in caught.value.fix
        assert Client(server.address, " secret ").health()["api"] == 1


def test_a_user_and_a_password_open_the_door_as_the_server_reads_them():
    access = Access("0.0.0.0", None, "anna", "a-long:password")
    assert access.lets_in(authorization("a-long:password", "anna"))
    assert not access.lets_in(authorization("a-long:password", "otto"))
    assert Access("0.0.0.0", "a-long:token").lets_in(authorization("a-long:token", ""))
    with ApiDouble(token="unknown") as server:
        server.opening = {authorization("secret", "anna")}
        assert Client(server.address, "secret", " anna ").health()["api"] == 1
        with pytest.raises(ServerError) as caught:
            Client(server.address, "secret").health()
        assert caught.value.status == 401


def test_the_token_is_not_carried_to_another_server():
    with ApiDouble() as other, ApiDouble(token="secret") as server:
        server.redirect = other.address
        assert Client(server.address, "secret").health()["name"] == "dreamlab"
        assert len(other.headers) == 1 and "Authorization" not in other.headers[0]


def test_a_closed_port_is_named_with_how_to_start_a_server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServerError, match=rf":{port} .*dreamlab serve") as caught:
        Client(f"127.0.0.1:{port}").health()
    assert caught.value.may_pass


def test_a_stranger_is_told_from_a_dreamlab_server(server, monkeypatch):
    monkeypatch.setattr(server, "_answer", lambda *_: b"<html>hello</html>")
    with pytest.raises(ServerError, match="not as a dreamlab server"):
        Client(server.address).health()
    monkeypatch.setattr(server, "_answer", lambda *_: {"name": "other"})
    with pytest.raises(ServerError, match="not as a dreamlab server"):
        Client(server.address).health()
    monkeypatch.setattr(server, "_answer", lambda *_: {"name": "dreamlab", "api": 2})
    with pytest.raises(ServerError, match="dreamlab blender package"):
        Client(server.address).health()


def test_trouble_of_the_server_may_pass(server):
    server.broken = 1
    with pytest.raises(ServerError, match="busy") as caught:
        Client(server.address).recipes()
    assert caught.value.may_pass
    assert json.dumps(Client(server.address).recipes())
