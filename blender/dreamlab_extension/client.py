"""What the extension asks of a dreamlab server, over its HTTP API (version 1).

Standard library only, and no Blender: this runs on the thread of `worker.py`. Every failure is a
`ServerError` with what was wrong and what to do, in the server's own words where it has some.
"""

import base64
import json
import os
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

API = "/api/v1"
API_VERSION = 1
MAX_MODEL_BYTES = 64 * 2**20
"""The server takes no larger model."""
CHUNK_BYTES = 1 << 16
"""Read at a time."""
ANSWER_SECONDS = 15.0
LONG_SECONDS = 120.0
"""How long the server may be silent when it is asked something, and when it has to do something:
to take or send a file, or to check a wish, for which one that was just started loads its libraries.
"""
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Json = dict[str, Any]


class ServerError(Exception):
    """The server cannot be asked, or refused.

    Args:
        message: what was wrong.
        fix: what the user can do about it.
        status: of the HTTP answer; 0 if there was none.
    """

    def __init__(self, message: str, fix: str, status: int = 0) -> None:
        super().__init__(message, fix, status)
        self.message, self.fix, self.status = message, fix, status

    @property
    def may_pass(self) -> bool:
        """Whether the same question may be answered later: no answer, or trouble on the server."""
        return self.status == 0 or self.status >= 500

    def __str__(self) -> str:
        return f"{self.message} {self.fix}"


def full_address(typed: str) -> str:
    """Complete an address as users type it: `localhost:7860` becomes `http://localhost:7860`.

    Raises:
        ServerError: it is no address of a web server.
    """
    text = typed.strip()
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        is_good = False
    if not is_good:
        raise ServerError(
            f"{typed!r} is no address of a server.", "Write it like http://127.0.0.1:7860."
        )
    return text.rstrip("/").removesuffix(API)


def is_loopback(address: str) -> bool:
    """Whether a complete address is that of this computer."""
    return urlsplit(address).hostname in LOOPBACK


def authorization(secret: str, user: str) -> str:
    """Return what shows a token, or a user with a password; empty if there is nothing to show."""
    if user:
        return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode("ascii")
    return f"Bearer {secret}" if secret else ""


class Client:
    """Asks one server.

    Args:
        address: as typed by a user; see `full_address`.
        token: of the server, or the password of `user`; empty if it wants none.
        user: of a server that asks for one; empty for a token.

    Raises:
        ServerError: the address is none.
    """

    def __init__(self, address: str, token: str = "", user: str = "") -> None:
        self.address = full_address(address)
        self._authorization = authorization(token.strip(), user.strip())
        # a proxy of the environment cannot reach this computer's own servers
        self._opener = build_opener(*([ProxyHandler({})] if is_loopback(self.address) else []))

    def health(self) -> Json:
        """Return the server's name, version and load.

        Raises:
            ServerError: nobody answers, or somebody else than a dreamlab server of this API.
        """
        answer = self._json("GET", "/health")
        if not isinstance(answer, dict) or answer.get("name") != "dreamlab":
            raise self._stranger()
        if answer.get("api") != API_VERSION:
            raise ServerError(
                f"The server speaks version {answer.get('api')} of the API, "
                f"this extension version {API_VERSION}.",
                "Install the extension that belongs to the server: dreamlab blender package.",
            )
        return answer

    def recipes(self) -> list[Json]:
        """Return the recipes of the server."""
        return self._json("GET", "/recipes")

    def submit(self, **fields: Any) -> Json:
        """Queue a run (prompt, recipe, quality, seed, model, …); return its job."""
        return self._json("POST", "/jobs", fields)

    def jobs(self, limit: int) -> list[Json]:
        """Return the newest jobs."""
        query = urlencode({"order": "newest", "limit": limit})
        return self._json("GET", f"/jobs?{query}")["jobs"]

    def job(self, name: str) -> Json:
        """Return a job."""
        return self._json("GET", _job_path(name))

    def act(self, name: str, action: str) -> Json:
        """Stop, cancel, … a job; return it."""
        return self._json("POST", f"{_job_path(name)}/{quote(action)}", {})

    def files(self, name: str) -> list[str]:
        """Return the paths of a job's files, relative to its folder."""
        return [file["path"] for file in self._json("GET", f"{_job_path(name)}/files")]

    def download(self, name: str, path: str, target: Path) -> Path:
        """Fetch one of a job's files; `target` appears when it is complete."""
        request = self._request("GET", f"{_job_path(name)}/files/{quote(path)}")
        partial = target.with_name(target.name + ".part")
        try:
            with self._open(request, LONG_SECONDS) as answer, partial.open("wb") as file:
                while chunk := self._guarded(lambda: answer.read(CHUNK_BYTES)):
                    file.write(chunk)
            os.replace(partial, target)
        except OSError as error:
            raise ServerError(
                f"{target} cannot be written: {error.strerror or error}.",
                "Free some space on the disk, or choose another folder for temporary files.",
            ) from None
        return target

    def upload_model(self, path: Path) -> str:
        """Send a GLB; return the id by which a run can start from it.

        Raises:
            ServerError: it is too large, or refused.
        """
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ServerError(
                f"The model has {size >> 20} MB, the server takes {MAX_MODEL_BYTES >> 20}.",
                "Simplify the mesh or make its textures smaller.",
            )
        request = self._request("POST", "/models", path.read_bytes(), "model/gltf-binary")
        return self._read_json(request, LONG_SECONDS)["id"]

    def _json(self, method: str, path: str, body: Json | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = self._request(method, path, data, "application/json")
        return self._read_json(request, ANSWER_SECONDS if method == "GET" else LONG_SECONDS)

    def _request(
        self, method: str, path: str, data: bytes | None = None, media_type: str = ""
    ) -> Request:
        request = Request(self.address + API + path, data=data, method=method)
        if data is not None:
            request.add_header("Content-Type", media_type)
        if self._authorization:
            # stays behind when the server sends us to another one
            request.add_unredirected_header("Authorization", self._authorization)
        return request

    def _read_json(self, request: Request, seconds: float) -> Any:
        with self._open(request, seconds) as answer:
            content = self._guarded(answer.read)
        try:
            return json.loads(content)
        except ValueError:
            raise self._stranger() from None

    def _open(self, request: Request, seconds: float) -> Any:
        return self._guarded(lambda: self._opener.open(request, timeout=seconds))

    def _guarded(self, transfer: Any) -> Any:
        """Do something with the network; turn what goes wrong into a `ServerError`."""
        try:
            return transfer()
        except HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except URLError as error:
            raise self._silence(error.reason) from None
        except (OSError, HTTPException) as error:
            raise self._silence(error) from None

    def _refusal(self, error: HTTPError) -> ServerError:
        try:
            said = json.loads(error.read())["error"]
            return ServerError(str(said["message"]), str(said["fix"]), error.code)
        except (ValueError, KeyError, TypeError, OSError, HTTPException):
            if error.code < 500:
                return self._stranger(error.code)
            return ServerError(
                f"The server failed (status {error.code}).", "Look at its log.", error.code
            )

    def _silence(self, reason: object) -> ServerError:
        if isinstance(reason, TimeoutError):
            return ServerError(
                f"{self.address} did not answer in time.",
                "Its machine may be busy: try again later; or correct the address.",
            )
        return ServerError(
            f"No server answers at {self.address} ({reason}).",
            "Start one with `dreamlab serve`, or correct the address.",
        )

    def _stranger(self, status: int = 404) -> ServerError:
        return ServerError(
            f"{self.address} answers, but not as a dreamlab server does.",
            "Correct the address and its port.",
            status,
        )


def _job_path(name: str) -> str:
    return f"/jobs/{quote(name, safe='')}"
