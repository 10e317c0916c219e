"""Servers in this process over one folder of runs; tests share them, building one takes a while."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import unquote

import pytest
from queued_runs import queued_run
from starlette.testclient import TestClient

from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.queue.desk import Desk
from dreamlab.web.security import Access
from dreamlab.web.server import ServerSettings, build_app
from dreamlab.web.service import Service

LOCAL = "http://127.0.0.1:7860"
TOKEN = "0123456789-token"


class LazyDesk(Desk):
    """Starts with the first question, not with the server."""

    def start(self) -> None:
        pass


@pytest.fixture(scope="session")
def service(tmp_path_factory) -> Iterator[Service]:
    """A service with a real desk."""
    runs = tmp_path_factory.mktemp("web") / "runs"
    made = Service(runs, desk=LazyDesk(runs))
    yield made
    made.close()


@pytest.fixture(scope="session")
def web(service) -> Iterator[TestClient]:
    """Requests to a server on the loopback address."""
    with TestClient(build_app(service, ServerSettings(has_pages=False)), base_url=LOCAL) as client:
        yield client


@pytest.fixture(scope="session")
def secured(service) -> Iterator[TestClient]:
    """Requests to a server that everybody reaches, with a token, and a user and a password."""
    access = Access("0.0.0.0", TOKEN, "anna", "a-long-password")
    with TestClient(
        build_app(service, ServerSettings(access, has_pages=False)), base_url=LOCAL
    ) as client:
        yield client


@pytest.fixture
def new_run(service) -> Callable[..., RunFolder]:
    """Make a run in the folder that is served; fields of its record may be given."""
    service.listing.has_changed()
    return partial(queued_run, service.runs)


@pytest.fixture(scope="session")
def get_raw(web) -> Callable[[str], tuple[int, bytes]]:
    """Ask for a path as it is, which no client would do; returns status and body."""

    async def ask(raw: bytes) -> tuple[int, bytes]:
        path = unquote(raw.decode("ascii"))
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": raw}
        scope |= {"headers": [(b"host", b"127.0.0.1")], "query_string": b"", "scheme": "http"}
        scope |= {"http_version": "1.1", "server": ("127.0.0.1", 7860), "client": ("127.0.0.1", 1)}
        sent: list[dict] = []

        async def receive() -> dict:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message) -> None:
            sent.append(message)

        await web.app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)

    return lambda path: asyncio.run(ask(path.encode()))
