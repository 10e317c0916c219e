"""What runs have made, over HTTP: their files, and their events as they happen."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated
from urllib.parse import quote

import anyio
from fastapi import APIRouter, Header, Query
from starlette.responses import FileResponse, Response, StreamingResponse

from dreamlab.core.run_folder import RunFolder
from dreamlab.web.api.answers import Answer, documented
from dreamlab.web.errors import NotFoundError, TooManyError
from dreamlab.web.files import media_type
from dreamlab.web.service import Service
from dreamlab.web.tail import Line, Tail
from dreamlab.web.views import FileView

POLL_SECONDS = 0.5
ALIVE_SECONDS = 15.0
"""Between two lines that say nothing, so that a proxy does not give up."""
MAX_STREAMS = 200
END = "end"
"""Kind of the last event of a stream, which holds the run's record."""


def router(service: Service) -> APIRouter:
    """Make the routes."""
    api = APIRouter(tags=["results"])
    streams = _Streams(service)

    @api.get(
        "/jobs/{name}/events",
        response_class=StreamingResponse,
        responses=documented(404, 429) | {200: {"content": {"text/event-stream": {}}}},
    )
    async def events(
        name: str,
        since: Annotated[int, Query(ge=0, description="Go on after this line.")] = 0,
        last_event_id: Annotated[int, Header(ge=0, description="Likewise.")] = 0,
    ) -> Response:
        """Follow a run: server-sent events, each a line of its events.jsonl with its number as id.

        The stream ends with the event `end`, whose data is the run's record, when the run has come
        to rest: done, failed, stopped, paused or cancelled.
        """
        return streams.follow(service.open(name), max(since, last_event_id))

    @api.get("/jobs/{name}/files", response_model=list[FileView], responses=documented(404))
    def list_files(name: str) -> Answer:
        """List the files of a run."""
        return Answer(service.files(service.open(name)))

    @api.get(
        "/jobs/{name}/files/{path:path}",
        response_class=FileResponse,
        responses=documented(404) | {200: {"content": {"application/octet-stream": {}}}},
    )
    def get_file(name: str, path: str) -> Response:
        """Fetch a file; parts of it by `Range`."""
        found = service.file(service.open(name), path)
        try:
            status = found.stat()
        except OSError:
            raise NotFoundError(f"{path[:80]!r} is gone.", "see the list of files.") from None
        return FileResponse(
            found,
            media_type=media_type(found),
            stat_result=status,
            headers={"cache-control": "no-cache"},
        )

    @api.get(
        "/jobs/{name}/archive",
        response_class=StreamingResponse,
        responses=documented(404) | {200: {"content": {"application/zip": {}}}},
    )
    def archive(name: str) -> Response:
        """Fetch all files of a run as a zip file."""
        folder = service.open(name)
        disposition = f"attachment; filename*=UTF-8''{quote(folder.root.name)}.zip"
        return StreamingResponse(
            service.archive(folder),
            media_type="application/zip",
            headers={"content-disposition": disposition},
        )

    return api


class _Streams:
    """The runs that are followed."""

    def __init__(self, service: Service) -> None:
        self.service, self.number = service, 0

    def follow(self, folder: RunFolder, since: int) -> Response:
        """Answer with a stream of events.

        Raises:
            TooManyError: too many are open.
        """
        if self.number >= MAX_STREAMS:
            raise TooManyError(
                f"{self.number} runs are being followed.", "ask now and then instead."
            )
        return StreamingResponse(
            self._stream(folder, self.service.events(folder, since)),
            media_type="text/event-stream",
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
        )

    async def _stream(self, folder: RunFolder, tail: Tail) -> AsyncIterator[str]:
        self.number += 1
        spoken = time.monotonic()
        try:
            while True:
                is_final = await anyio.to_thread.run_sync(self.service.is_final, folder)
                for line in await anyio.to_thread.run_sync(tail.read):
                    yield _block(line)
                    spoken = time.monotonic()
                if is_final:
                    yield _last(asdict(self.service.describe(folder)))
                    return
                if time.monotonic() - spoken > ALIVE_SECONDS:
                    yield ":\n\n"
                    spoken = time.monotonic()
                await asyncio.sleep(POLL_SECONDS)
        except NotFoundError:
            return  # deleted
        finally:
            self.number -= 1


def _block(line: Line) -> str:
    return f"event: {line.kind}\nid: {line.number}\ndata: {line.text}\n\n"


def _last(job: dict[str, object]) -> str:
    return f"event: {END}\ndata: {json.dumps(job)}\n\n"
