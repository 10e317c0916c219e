"""The records of runs as bytes, and a short way to them.

Everybody who looks at runs asks for a record, or for a list of them, about once a second, and
mostly nothing has changed. `Records` writes a record as JSON once and keeps that until the run
changes. `Shortcut` stands before the application and answers such a request itself as long as that
holds: it looks at the files of the runs, but passes neither threads, routes nor checks of
parameters, which would cost several times as much. Whatever is new to it, or wrong, goes to the
application as if it were not there.

A record has an `ETag`; who sends it back as `If-None-Match` gets 304 without a body when the record
is the same.
"""

import json
from dataclasses import dataclass
from hashlib import blake2b

from starlette.types import ASGIApp, Receive, Scope, Send

from dreamlab.core.run_folder import RunFolder
from dreamlab.web.api.answers import encode
from dreamlab.web.listing import Asked
from dreamlab.web.looking import REMEMBERED
from dreamlab.web.memory import Memory
from dreamlab.web.service import API, Service
from dreamlab.web.views import JobView

LIST = f"{API}/jobs"
PREFIX = f"{LIST}/"
ETAG_BYTES = 12
REMEMBERED_QUERIES = 100
MAX_QUERY = 1000
"""Bytes of a query that is remembered."""
JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a run, written as JSON."""

    view: JobView
    """What it says."""
    body: bytes
    etag: str

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer that holds it; `no-cache`: to be asked for again, with the tag."""
        return {"etag": self.etag, "cache-control": "no-cache"}


class Records:
    """Writes records, each once."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._written = Memory[str, Record](REMEMBERED)
        self._asked = Memory[bytes, Asked](REMEMBERED_QUERIES)

    def get(self, folder: RunFolder) -> Record:
        """Return the record of a run as it is now.

        Raises:
            NotFoundError: it was deleted.
        """
        return self._write(folder.root.name, self.service.describe(folder))

    def remembered(self, name: str) -> Record | None:
        """Return the record of a run if nothing has changed since it was last asked for."""
        view = self.service.unchanged(name)
        return None if view is None else self._write(name, view)

    def learn(self, query: bytes, asked: Asked) -> None:
        """Note what the query of an address, which was found to be in order, asks for."""
        if len(query) <= MAX_QUERY:
            self._asked.put(query, asked)

    def remembered_page(self, query: bytes) -> bytes | None:
        """Return the list for a query if it is known what that means, and nothing has changed."""
        asked = self._asked.get(query)
        page = None if asked is None else self.service.listing.known(asked)
        if page is None:
            return None
        found = [self.remembered(entry.root.name) for entry in page.entries]
        records = [record for record in found if record is not None]
        return self.page(page.total, records) if len(records) == len(found) else None

    def _write(self, name: str, view: JobView) -> Record:
        record = self._written.get(name)
        if record is None or record.view is not view:
            body = encode(view)
            tag = blake2b(body, digest_size=ETAG_BYTES).hexdigest()
            record = Record(view, body, f'"{tag}"')
            self._written.put(name, record)
        return record

    def page(self, total: int, records: list[Record]) -> bytes:
        """Write a `bodies.JobList` of records."""
        jobs = b", ".join(record.body for record in records)
        return b'{"total": %s, "jobs": [%s]}' % (json.dumps(total).encode(), jobs)


class Shortcut:
    """Answers requests for records that have not changed; all others go to the application."""

    def __init__(self, app: ASGIApp, records: Records) -> None:
        """Stand before `app`."""
        self.app, self.records = app, records

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        found = self._find(scope)
        if found is None:
            await self.app(scope, receive, send)
            return
        status, headers, body = found
        if status == 200:
            headers = [*headers, JSON, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _find(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        """Return status, headers and body of the answer to a request."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == LIST:
            body = self.records.remembered_page(scope["query_string"])
            return None if body is None else (200, [], body)
        if not path.startswith(PREFIX):
            return None
        record = self.records.remembered(path[len(PREFIX) :])
        if record is None:
            return None
        headers = [(name.encode(), value.encode()) for name, value in record.headers.items()]
        known = next((value for name, value in scope["headers"] if name == b"if-none-match"), b"")
        is_known = record.etag.encode() in known
        return (304, headers, b"") if is_known else (200, headers, record.body)
