"""A real server on a port of its own, its supervisor, and headless Chromium.

DREAMLAB_BROWSER       another Chromium
DREAMLAB_SCREENSHOTS   a folder in which a picture of every page that a test has seen is kept
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

BROWSER = os.environ.get("DREAMLAB_BROWSER") or shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
START_SECONDS = 240


class Server:
    """`dreamlab serve` over a folder; it can be killed and started again on the same port."""

    def __init__(self, runs: Path) -> None:
        self.runs, self.log = runs, runs.with_name("server.log")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.process: subprocess.Popen[bytes] | None = None
        self.orphans: list[int] = []

    def start(self) -> None:
        command = [sys.executable, "-m", "dreamlab", "serve", str(self.runs)]
        command += ["--port", str(self.port)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(START_SECONDS * 2):
            assert self.process.poll() is None, self.log.read_text()
            try:
                urlopen(f"{self.url}api/v1/health").close()
                return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        """End the server alone, without a word; its supervisor and workers go on."""
        assert self.process is not None
        for children in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            self.orphans += [int(pid) for pid in children.read_text().split()]
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End the server and what it started."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=120)
        for pid in self.orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def ask(self, method: str, address: str, **body: Any) -> Any:
        """Send a request to the API and return the answer."""
        request = Request(
            f"{self.url}api/v1/{address}",
            method=method,
            data=json.dumps(body).encode() if body else None,
            headers={"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=120) as answer:
            return json.loads(answer.read() or b"null")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("browser") / "runs")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if BROWSER is None:
        pytest.skip("no chromium here, and DREAMLAB_BROWSER is not set")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, server, request):
    """Open pages, each in a browser session of its own; none may have an error in the end."""
    pages: list = []
    errors: list[str] = []

    def make(address: str = ""):
        page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url + address)
        pages.append(page)
        return page

    yield make
    folder = os.environ.get("DREAMLAB_SCREENSHOTS")
    for number, page in enumerate(pages):
        if folder:
            name = f"{request.node.name}-{number}.png"
            page.screenshot(path=str(Path(folder) / name), full_page=True)
        page.context.close()
    assert errors == []
