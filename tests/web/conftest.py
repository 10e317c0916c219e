"""A server in this process, over a folder of runs and one desk that all tests ask."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from queued_runs import queued_run
from starlette.testclient import TestClient

from dreamlab.jobs.queue.desk import Desk
from dreamlab.web.security import Access
from dreamlab.web.server import ServerSettings, build_app
from dreamlab.web.service import Service

LOCAL = "http://127.0.0.1:7860"


class SharedDesk(Desk):
    """Stays when a service that used it is closed; answers for the folder of the last one."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Iterator[tuple[Path, Desk]]:
    """A folder of runs, and the process that checks settings for it."""
    runs = tmp_path_factory.mktemp("shared") / "runs"
    desk = SharedDesk(runs)
    yield runs, desk
    Desk.close(desk)


@pytest.fixture
def service(shared) -> Service:
    """A service over the shared folder, whose desk may be asked."""
    runs, desk = shared
    return Service(runs, desk=desk)


@pytest.fixture
def web(service) -> Iterator[TestClient]:
    """Requests to a server on the loopback address."""
    with TestClient(build_app(service, ServerSettings()), base_url=LOCAL) as client:
        yield client


@pytest.fixture
def quiet_web(tmp_path):
    """Requests to a server over a folder of its own, whose desk is never asked."""
    made: list[TestClient] = []

    def make(access: Access | None = None, **options) -> TestClient:
        service = Service(tmp_path / "runs", desk=SharedDesk(tmp_path, ["false"]), **options)
        settings = ServerSettings(access or Access())
        made.append(TestClient(build_app(service, settings), base_url=LOCAL))
        return made[-1]

    return make


@pytest.fixture
def new_run(tmp_path):
    """Make a run in the folder of `quiet_web`; fields of its record may be given."""
    return partial(queued_run, tmp_path / "runs")
