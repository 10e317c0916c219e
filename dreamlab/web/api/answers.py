"""How the API answers: JSON that is always valid, and errors that all have one shape."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from dreamlab.core.errors import DreamlabError
from dreamlab.jobs.queue.desk import DeskError
from dreamlab.web.api.bodies import ErrorAnswer
from dreamlab.web.errors import TooManyError, WebError
from dreamlab.web.security import error_content

T = TypeVar("T")
AT_DESK = 40
"""Requests that may wait for the desk at once."""
FIXES = {404: "see /docs for the addresses there are.", 405: "see /docs for what is allowed."}
ABOUT = {
    400: "Something in the request is wrong.",
    401: "No token, or a wrong one.",
    404: "There is no such thing.",
    409: "Not possible in the state of the run.",
    413: "Too many bytes.",
    429: "The queue is full, or too many requests are open.",
}


class Answer(Response):
    """JSON in ASCII: text that has no form in UTF-8 is escaped, numbers are finite."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write it; bytes are JSON already."""
        return content if isinstance(content, bytes) else encode(content)


def encode(content: Any) -> bytes:
    """Write plain values and dataclasses as JSON."""
    return json.dumps(content, default=_fields, allow_nan=False).encode("ascii")


def _fields(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass; unlike `asdict` without copying what is in them."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route."""
    return {s: {"model": ErrorAnswer, "description": ABOUT[s]} for s in (400, 401, *statuses)}


def refused(error: DreamlabError, status: int) -> Answer:
    """Answer with an error."""
    return Answer(error_content(error), status)


def add_handlers(app: FastAPI) -> None:
    """Let every error come out in the same shape."""
    app.add_exception_handler(DreamlabError, _on_dreamlab_error)
    app.add_exception_handler(RequestValidationError, _on_bad_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)


async def _on_dreamlab_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DreamlabError)
    if isinstance(error, WebError):
        return refused(error, error.status)
    return refused(error, 503 if isinstance(error, DeskError) else 400)


async def _on_bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    lines: list[str] = []
    for problem in error.errors()[:5]:
        place = ".".join(str(part)[:80] for part in problem["loc"][1:])
        lines.append(f"{place or 'the body'}: {problem['msg']}")
    message = "; ".join(lines)[:1000]
    return refused(DreamlabError(f"{message}.", "correct the request, see /docs."), 400)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    fix = FIXES.get(error.status_code, "correct the request, see /docs.")
    answer = refused(DreamlabError(f"{error.detail}.", fix), error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _on_bug(request: Request, error: Exception) -> Response:
    line = " ".join(str(error).split())[:200]
    message = f"this is a bug in dreamlab ({type(error).__name__}: {line})."
    return refused(DreamlabError(message, "see the server's output, and report it."), 500)


class AtDesk:
    """Lets requests wait for the desk in threads of their own, so that others are not kept."""

    def __init__(self) -> None:
        self._limiter: anyio.CapacityLimiter | None = None
        self._waiting = 0

    async def __call__(self, ask: Callable[..., T], *arguments: Any) -> T:
        """Call a function in a thread.

        Raises:
            TooManyError: too many wait already.
        """
        if self._waiting >= AT_DESK:
            raise TooManyError("too much is being checked at once.", "try again in a while.")
        self._limiter = self._limiter or anyio.CapacityLimiter(AT_DESK)
        self._waiting += 1
        try:
            return await anyio.to_thread.run_sync(ask, *arguments, limiter=self._limiter)
        finally:
            self._waiting -= 1


def without_422(schema: dict[str, Any]) -> dict[str, Any]:
    """Take the answer that FastAPI promises for bad requests, and we never give, from a schema."""
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    return schema
