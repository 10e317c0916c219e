"""A language model for tests: a real HTTP server whose answers a test writes."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any

from local_server import LocalServer

Answer = str | bytes | Callable[["ChatDouble", BaseHTTPRequestHandler], None]
"""What the model says, the whole body of an answer, or what to do with the connection."""


class ChatDouble(LocalServer):
    """`with ChatDouble(first, second) as server: server.url`; the last answer repeats."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        """The body of every request."""
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.over = Event()
        """Set when the test ends, for answers that wait."""

    def __exit__(self, *_: object) -> None:
        self.over.set()
        super().__exit__()

    @property
    def url(self) -> str:
        return f"{self.address}/v1"

    def _serve(self, request: BaseHTTPRequestHandler, method: str) -> None:
        length = int(request.headers["Content-Length"])
        self.asked.append(json.loads(request.rfile.read(length)))
        self.paths.append(request.path)
        self.headers.append(dict(request.headers))
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if callable(answer):
            try:
                answer(self, request)
            except OSError:
                pass  # the other side has hung up
            return
        send(request, 200, said(answer) if isinstance(answer, str) else answer)


def said(text: str) -> bytes:
    """Return the body in which a model says a text."""
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"index": 0, "message": message}]}).encode()


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """Answer a request."""
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
