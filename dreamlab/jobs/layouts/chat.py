"""One question to a language model behind an OpenAI-compatible endpoint.

    POST URL/chat/completions  {model, messages, response_format: {type: json_object}}
    answer: choices[0].message.content

Ollama, llama.cpp, vLLM and hosted services speak this. What is promised, whatever the server does:

- Nothing is sent but to the address that is named: over https, or over http to this machine. No
  redirect is followed and no proxy is used.
- The exchange ends within the time limit, and at most `MAX_BYTES` of an answer are read.
- The key stands in one header and nowhere else: no message, file or log has it.
"""

import http.client
import json
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Timer
from typing import Any
from urllib.parse import urlsplit

from dreamlab.core.addresses import is_loopback
from dreamlab.core.errors import InputError, MissingError
from dreamlab.core.version import VERSION

MAX_BYTES = 1_000_000
"""Of an answer, headers apart."""
PATH = "/chat/completions"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
KEY = re.compile(r"[!-~]+")
"""What a header can hold."""
Message = dict[str, str]
"""`role` (system, user, assistant) and `content`."""


@dataclass(frozen=True)
class Endpoint:
    """Which model to ask, and where.

    Raises:
        InputError: the address is none, or is neither https nor on this machine.
    """

    url: str
    """Up to and without /chat/completions, such as http://127.0.0.1:11434/v1."""
    model: str
    """As the server knows it."""
    key: str | None = field(default=None, repr=False)
    time_limit: float = 120.0
    """Seconds for one answer."""

    def __post_init__(self) -> None:
        fix = "give one such as http://127.0.0.1:11434/v1 (--llm)."
        try:
            parts, port = urlsplit(self.url), urlsplit(self.url).port
        except ValueError:
            raise InputError("that is no address of a language model.", fix) from None
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise InputError(
                "the address of a language model has a user, a password or a query.",
                "leave that out; name a variable that holds the key with --key-env.",
            )
        is_plain = self.url.isascii() and self.url.isprintable() and " " not in self.url
        if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain or port == 0:
            raise InputError(f"{self.url!r:.200} is no address of a language model.", fix)
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise InputError(
                f"{self.url} is on another computer, and http shows what is sent to everybody.",
                "use https, or a server on this machine.",
            )
        if not self.model.strip():
            raise InputError("the model has no name.", "name one that the server has (--model).")
        if not 0 < self.time_limit <= 3600:
            raise InputError(
                f"the time limit is {self.time_limit:g} s, allowed are 0 to 3600.", "change it."
            )


def key_from(variable: str) -> str:
    """Return the key that an environment variable holds.

    Raises:
        InputError: that is no name of a variable, or its value can be no key.
        MissingError: it is not set.
    """
    if not VARIABLE.fullmatch(variable):  # not quoted: it may be the key itself
        raise InputError(
            "--key-env names no environment variable.", "give a name such as OPENAI_API_KEY."
        )
    key = os.environ.get(variable, "")
    if not key:
        raise MissingError(f"the variable {variable} is not set.", f"export {variable}=... first.")
    if not KEY.fullmatch(key):
        raise InputError(f"the value of {variable} can be no key.", "check it.")
    return key


def ask(endpoint: Endpoint, messages: Sequence[Message]) -> str:
    """Send messages and return what the model says.

    Raises:
        InputError: nothing answers in time, or what answers is no language model or refuses.
    """
    body = {
        "model": endpoint.model,
        "messages": list(messages),
        "response_format": {"type": "json_object"},
        "stream": False,
    }
    status, location, answer = _post(endpoint, json.dumps(body).encode())
    if 300 <= status < 400:
        raise InputError(
            f"{endpoint.url} sends on to {_said(location, endpoint)}.",
            "nothing was sent there; give that address with --llm if you trust it.",
        )
    if status in (401, 403):
        raise InputError(
            f"{endpoint.url} refuses the key: {_said(answer, endpoint)}.",
            "name the variable that holds one with --key-env.",
        )
    if status != 200:
        raise InputError(
            f"{endpoint.url} answers with status {status}: {_said(answer, endpoint)}.",
            "check --llm and --model.",
        )
    try:
        content = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        content = None
    if not isinstance(content, str):
        raise InputError(
            f"{endpoint.url} does not answer as a language model: {_said(answer, endpoint)}.",
            "give the address of an OpenAI-compatible server, mostly with /v1 at its end.",
        )
    return content


def _post(endpoint: Endpoint, body: bytes) -> tuple[int, bytes, bytes]:
    """Return status, the address of a redirect, and content."""
    parts = urlsplit(endpoint.url)
    path = parts.path.rstrip("/")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=endpoint.time_limit)
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Connection": "close",
        "User-Agent": f"dreamlab/{VERSION}",
    }
    if endpoint.key is not None:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    expired = Event()
    try:
        connection.connect()
        if parts.scheme == "http" and not is_loopback(connection.sock.getpeername()[0]):
            raise InputError(
                f"{parts.hostname} is not this machine.", "use https, or another address."
            )
        with _cut_after(endpoint.time_limit, connection.sock, expired):
            connection.request("POST", path.removesuffix(PATH) + PATH, body, headers)
            with connection.getresponse() as response:
                content = response.read(MAX_BYTES + 1)
                location = response.getheader("Location") or ""
    except (OSError, http.client.HTTPException) as error:
        if expired.is_set() or isinstance(error, TimeoutError):
            raise _too_slow(endpoint) from None
        reason = _said(str(error) or type(error).__name__, endpoint)
        raise InputError(
            f"{endpoint.url} cannot be asked: {reason}.",
            "start the server, and check --llm.",
        ) from None
    finally:
        connection.close()
    if expired.is_set():
        raise _too_slow(endpoint)
    if len(content) > MAX_BYTES:
        raise InputError(
            f"the answer of {endpoint.url} is larger than {MAX_BYTES} bytes.",
            "name another model or server.",
        )
    return response.status, location.encode(), content


@contextmanager
def _cut_after(seconds: float, sock: socket.socket, expired: Event) -> Iterator[None]:
    """End a connection after a time, however little a server sends at a time."""

    def cut() -> None:
        expired.set()
        try:
            # of the plain socket: what is waiting in an encrypted one wakes up too
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            pass

    timer = Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _too_slow(endpoint: Endpoint) -> InputError:
    return InputError(
        f"{endpoint.url} did not answer within {endpoint.time_limit:g} s.",
        "allow more with --time-limit, or name a smaller model.",
    )


def _said(answer: bytes | str, endpoint: Endpoint) -> str:
    """Return the beginning of what a server says as one line without the key."""
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    message: Any = None
    try:
        error = json.loads(text)["error"]
        message = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    words = message if isinstance(message, str) else text
    if endpoint.key is not None:
        words = words.replace(endpoint.key, "(the key)")
    line = " ".join("".join(c if c.isprintable() else " " for c in words[:2000]).split())
    return line[:200].rstrip(".") or "nothing"
