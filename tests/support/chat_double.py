"""A language model for tests: a real HTTP server whose answers a test writes."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

Answer = str | bytes | Callable[["ChatDouble", BaseHTTPRequestHandler], None]
"""What the model says, the whole body of an answer, or what to do with the connection."""


class ChatDouble:
    """`with ChatDouble(first, second) as server: server.url`; the last answer repeats."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        """The body of every request."""
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.over = Event()
        """Set when the test ends, for answers that wait."""

    def __enter__(self) -> "ChatDouble":
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                double._serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
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
