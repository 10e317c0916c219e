"""Who may ask the server for what: hosts, sites, tokens and sizes, before anything else looks.

A server on the loopback address has no password, but every page that the user's browser has open
can send requests to it. So there

- the name in `Host` must be that of this machine (a foreign name that resolves to it is the attack
  called DNS rebinding), and
- what changes something must not come from another site (`Origin`, `Sec-Fetch-Site`).

Any other address needs a token or a user name with a password. Either is shown as
`Authorization: Bearer TOKEN` or as `Basic`; a browser may give the token as anybody's password.
"""

import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dreamlab.core.addresses import is_loopback
from dreamlab.core.errors import DreamlabError, InputError
from dreamlab.web.errors import ForeignError, NotAllowedError, TooLargeError, WebError
from dreamlab.web.uploads import MAX_BYTES

API_PREFIX = "/api/"
UPLOADS = "/api/v1/models"
MAX_BODY = 2**20
"""Bytes of a request to the API that is no upload."""
MIN_SECRET = 8
KNOWN_HOSTS = 64
"""Values of `Host` whose meaning is remembered; most requests have the same one."""
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)
NO_FRAMES = (b"x-frame-options", b"SAMEORIGIN")


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in."""

    host: str = "127.0.0.1"
    """The address that the server listens on."""
    token: str | None = None
    """Opens everything."""
    user: str | None = None
    """Opens everything together with the password."""
    password: str | None = None
    is_open: bool = False
    """Whether the user knows that without a token anybody who reaches the server may use it."""

    def __post_init__(self) -> None:
        """Check.

        Raises:
            InputError: a secret that is none, or an address that others reach without one.
        """
        for name, secret in (("token", self.token), ("password", self.password)):
            if secret is not None and (len(secret) < MIN_SECRET or not secret.isprintable()):
                raise InputError(
                    f"the {name} has {len(secret)} characters.",
                    f"choose one of at least {MIN_SECRET} printable characters.",
                )
        if (self.user is None) != (self.password is None):
            raise InputError("a user name and a password go together.", "give USER:PASSWORD.")
        if not (self.is_local or self.has_secret or self.is_open):
            raise InputError(
                f"everybody who reaches {self.host} could use this machine.",
                "set --token or --auth, or --i-know if that is meant.",
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.host)

    @property
    def has_secret(self) -> bool:
        """Whether requests must show one."""
        return self.token is not None or self.password is not None

    def lets_in(self, authorization: str) -> bool:
        """Whether a header shows the token or the password; takes as long for any wrong one."""
        kind, _, shown = authorization.partition(" ")
        kind, shown = kind.lower(), shown.strip()
        if kind == "bearer":
            return self.token is not None and _same(shown, self.token)
        if kind != "basic":
            return False
        try:
            user, _, password = base64.b64decode(shown, validate=True).decode().partition(":")
        except ValueError:
            return False
        by_token = self.token is not None and _same(password, self.token)
        is_user = self.user is not None and _same(user, self.user)
        is_password = self.password is not None and _same(password, self.password)
        return by_token or (is_user and is_password)


def _same(shown: str, secret: str) -> bool:
    return hmac.compare_digest(shown.encode(), secret.encode())


class Guard:
    """The outermost layer of the server; whatever it refuses reaches nothing behind it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        """Stand before `app`."""
        self.app, self.access = app, access
        self.headers = HEADERS + ((NO_FRAMES,) if access.is_local else ())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with what is wrong."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        try:
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            limit = self._check(scope, headers)
        except WebError as error:
            if scope["type"] == "http":
                await refuse(send, error, self._challenge(scope, error))
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        passing = _Passing(receive, send, limit, self.headers)
        await self.app(scope, passing.receive, passing.send)

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> int:
        """Return the most bytes that the request's body may have.

        Raises:
            WebError: it is refused.
        """
        host = headers.get("host", "")
        if self.access.is_local and not _is_this_machine(host):
            raise ForeignError(
                f"this server is not {host[:80]!r}.", f"open it as http://{self.access.host}."
            )
        if self.access.has_secret and not self.access.lets_in(headers.get("authorization", "")):
            raise NotAllowedError(
                "the request shows no valid token or password.",
                "send the header `Authorization: Bearer TOKEN`.",
            )
        if scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS:
            _refuse_foreign(host, headers)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        is_small = path.startswith(API_PREFIX) and path.rstrip("/") != UPLOADS
        limit = MAX_BODY if is_small else MAX_BYTES
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length[:20]) > limit:
            raise _too_large(limit)
        return limit

    def _challenge(self, scope: Scope, error: WebError) -> dict[str, str]:
        if error.status != NotAllowedError.status:
            return {}
        is_api = API_PREFIX in scope["path"]
        return {"www-authenticate": "Bearer" if is_api else 'Basic realm="dreamlab"'}


@lru_cache(KNOWN_HOSTS)
def _is_this_machine(host: str) -> bool:
    return is_loopback(_name_of(host))


def _name_of(host: str) -> str:
    """Return a host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _refuse_foreign(host: str, headers: Mapping[str, str]) -> None:
    """Refuse what another site has a browser send; programs that are no browsers name no origin.

    Raises:
        ForeignError: it comes from there.
    """
    origin = headers.get("origin")
    is_own = origin is None or _netloc(origin) == host.lower()
    if not is_own or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise ForeignError(
            f"the request comes from another site, {(origin or 'unknown')[:80]!r}.",
            "use the page of this server.",
        )


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError("the request is too large.", f"send at most {limit} bytes.")


class _Passing:
    """A request on its way in, whose bytes are counted, and its answer on its way out."""

    def __init__(
        self, receive: Receive, send: Send, limit: int, headers: tuple[tuple[bytes, bytes], ...]
    ) -> None:
        self._receive, self._send, self._limit, self._headers = receive, send, limit, headers
        self._bytes, self._is_answered = 0, False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            if self._bytes > self._limit:
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if self._bytes > self._limit:  # whatever the server makes of half a body
            if not self._is_answered:
                self._is_answered = True
                await refuse(self._send, _too_large(self._limit))
            return
        if message["type"] == "http.response.start":
            present = {name for name, _ in message["headers"]}
            added = [pair for pair in self._headers if pair[0] not in present]
            message = {**message, "headers": [*message["headers"], *added]}
        await self._send(message)


def error_content(error: DreamlabError) -> dict[str, Any]:
    """Return the body of an answer that refuses something."""
    return {"error": {"message": error.message, "fix": error.fix}}


async def refuse(send: Send, error: WebError, headers: Mapping[str, str] | None = None) -> None:
    """Answer with an error."""
    body = json.dumps(error_content(error)).encode()
    given = {"content-type": "application/json", "content-length": str(len(body))}
    pairs = [
        (name.encode(), value.encode()) for name, value in (given | dict(headers or {})).items()
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
