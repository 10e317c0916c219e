"""One server for the page and the HTTP API, on one port.

    /            the page, where Gradio is installed
    /api/v1/     the API, see docs/api.md
    /docs        its description, from which requests can be tried

Everything passes `security.Guard` first, and then `api.records.Shortcut`.
"""

import importlib.util
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp

from dreamlab.core.errors import InputError
from dreamlab.core.version import VERSION
from dreamlab.web.api import basics, jobs, results
from dreamlab.web.api.answers import AtDesk, add_handlers, without_422
from dreamlab.web.api.records import Records, Shortcut
from dreamlab.web.security import Access, Guard
from dreamlab.web.service import API, Service

PAGES = "dreamlab.web.pages"
BACKLOG = 512
"""Connections that may wait to be accepted."""
END_SECONDS = 3
"""That open requests get when the server ends; streams of events would go on for ever."""
ABOUT = """Text to 3D: submit prompts, follow the runs, fetch the models.

Times are seconds since 1970. Whatever is refused has the shape
`{"error": {"message": "...", "fix": "..."}}`."""
INDEX = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>dreamlab</title>
<h1>dreamlab</h1>
<p>The page needs Gradio: <code>pip install -e ".[web]"</code> in the clone.</p>
<p>The HTTP API is here: <a href="docs">its description</a>.</p>
</html>
"""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the server is reached."""

    access: Access = field(default_factory=Access)
    """Who is let in."""
    port: int = 7860
    """Of the address in `access`."""
    root_path: str = ""
    """What a proxy puts before every address."""
    has_pages: bool = True
    """Whether the page is served too, not the API alone."""


def build_app(service: Service, settings: ServerSettings) -> FastAPI:
    """Make the application; it can be served by any ASGI server."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=service.desk.start, daemon=True).start()
        yield
        service.close()

    app = FastAPI(
        title="dreamlab",
        version=VERSION,
        description=ABOUT,
        root_path=settings.root_path,
        lifespan=lifespan,
    )
    add_handlers(app)
    at_desk, records = AtDesk(), Records(service)
    for router in (
        basics.router(service, at_desk),
        jobs.router(service, at_desk, records),
        results.router(service),
    ):
        app.include_router(router, prefix=API)
    plain_schema = app.openapi

    def openapi() -> dict[str, Any]:
        return without_422(plain_schema())

    app.openapi = openapi  # as FastAPI's documentation has it
    _add_pages(app, service, settings)
    app.add_middleware(Shortcut, records=records)
    app.add_middleware(Guard, access=settings.access)
    return app


def _add_pages(app: FastAPI, service: Service, settings: ServerSettings) -> None:
    """Put the page at the root, or a note where it cannot be."""
    can_have = importlib.util.find_spec(PAGES) and importlib.util.find_spec("gradio")
    if not (settings.has_pages and can_have):
        app.get("/", include_in_schema=False)(lambda: HTMLResponse(INDEX))
        return
    importlib.import_module(PAGES).mount(app, service, settings.root_path)


def bind(settings: ServerSettings) -> socket.socket:
    """Take the address before anything is started.

    Raises:
        InputError: it is in use, or not one of this machine.
    """
    host, port = settings.access.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}.",
            "choose another port with --port, or another --host.",
        ) from None
    # its connections inherit this: else the body of an answer, which is sent after its head, waits
    # until the client has acknowledged the head, and clients take 40 ms for that
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve on what `bind` returned, until SIGINT or SIGTERM."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=END_SECONDS,
    )
    with suppress(KeyboardInterrupt):  # it is raised again after the server has ended
        uvicorn.Server(config).run(sockets=[listener])
