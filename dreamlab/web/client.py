"""The HTTP API from Python, with nothing but the standard library.

    client = dreamlab.Client("http://127.0.0.1:7860")
    job = client.submit("a red mushroom", quality="draft")
    job = client.wait(job.name, on_change=lambda job: print(job.phase, job.progress))
    client.download(job.name, Path("mushroom"))

Whatever the server refuses is raised as `ClientError` with its message and its fix.
"""

import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from dreamlab.core.errors import DreamlabError, InputError
from dreamlab.core.run_folder import atomic_path
from dreamlab.web.views import (
    Checked,
    EstimateView,
    FileView,
    Health,
    JobView,
    RecipeView,
    SettingView,
)

API = "/api/v1"
AT_WORK = ("queued", "running")
END = "end"
"""Kind of the last event of a stream."""
RETRY_SECONDS = 2.0
"""Before a stream of events that broke off is taken up again."""
MAX_FAILURES = 30
"""In a row, after which the server counts as gone."""
POLL_SECONDS = 1.0
MAX_ERROR_BYTES = 1 << 16


class ClientError(DreamlabError):
    """The server refused something, or is not there."""

    def __init__(self, message: str, fix: str, status: int | None = None) -> None:
        super().__init__(message, fix)
        self.status = status
        """Of the HTTP answer; None if there was none."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened in a run."""

    number: int | None
    """Of its line in events.jsonl; following can go on from there."""
    kind: str
    """phase, step, preview, …; `end` closes the stream and holds the run's record."""
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some of the runs that were asked for."""

    total: int
    """How many there are in all."""
    jobs: list[JobView]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token must not be sent to where the server did not say it would be."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


class Client:
    """Talks to one server; may be used by several threads."""

    def __init__(
        self, url: str = "http://127.0.0.1:7860", *, token: str | None = None, timeout: float = 60.0
    ) -> None:
        """Name the server; nothing is sent yet.

        Args:
            url: of the server, with the path that a proxy may add.
            token: that it was started with.
            timeout: seconds to wait for an answer.

        Raises:
            InputError: the address is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                f"{url!r} is no address of a server.", "give one such as http://127.0.0.1:7860."
            )
        self.url, self.timeout = url.rstrip("/"), timeout
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if parts.hostname in ("127.0.0.1", "::1", "localhost"):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    # the server

    def health(self) -> Health:
        """Ask whether the server is there, and how much it has to do."""
        return Health(**self._json("GET", "/health"))

    def recipes(self) -> list[RecipeView]:
        """List the recipes."""
        return [RecipeView(**recipe) for recipe in self._json("GET", "/recipes")]

    def settings(
        self, recipe: str, quality: str | None = None, prompt: str | None = None
    ) -> list[SettingView]:
        """List the settings of a recipe; for a prompt of several things some defaults differ."""
        given = {"quality": quality, "prompt": prompt}
        query = {key: value for key, value in given.items() if value}
        found = self._json("GET", f"/recipes/{quote(recipe, safe='')}/settings", query=query)
        return [SettingView(**setting) for setting in found]

    # runs

    def check(self, prompt: str, **wish: Any) -> Checked:
        """Say what a run would be, without queueing it; arguments as for `submit`."""
        found = self._json("POST", "/check", {"prompt": prompt, **wish})
        estimate = found["estimate"] and EstimateView(**found["estimate"])
        return Checked(found["config_yaml"], found["unknown_words"], found["objects"], estimate)

    def submit(self, prompt: str, **wish: Any) -> JobView:
        """Queue a run.

        Args:
            prompt: what to make.
            wish: any of negative_prompt, recipe, quality, seed, priority, settings (dotted keys to
                plain values) and model (what `upload` returned).
        """
        return JobView(**self._json("POST", "/jobs", {"prompt": prompt, **wish}))

    def rerun(self, name: str, **changes: Any) -> JobView:
        """Queue a run with the settings of another one, changed.

        Args:
            name: of that one.
            changes: any of prompt, negative_prompt, seed, priority and settings.
        """
        return JobView(**self._json("POST", f"{_job(name)}/rerun", changes))

    def jobs(
        self,
        words: str = "",
        *,
        states: Sequence[str] = (),
        favourites: bool = False,
        order: str = "newest",
        limit: int = 50,
        offset: int = 0,
    ) -> JobPage:
        """List runs by words of the prompt, state or mark."""
        query = {"words": words, "order": order, "limit": str(limit), "offset": str(offset)}
        query |= {"state": ",".join(states)} if states else {}
        query |= {"favourites": "true"} if favourites else {}
        found = self._json("GET", "/jobs", query=query)
        return JobPage(found["total"], [JobView(**job) for job in found["jobs"]])

    def job(self, name: str) -> JobView:
        """Show a run."""
        return JobView(**self._json("GET", _job(name)))

    def act(self, name: str, action: str) -> JobView:
        """Do something with a run: stop, pause, cancel, resume, duplicate, (un)favourite."""
        return JobView(**self._json("POST", f"{_job(name)}/{quote(action, safe='')}"))

    def export(self, name: str, **settings: Any) -> JobView:
        """Queue a new export of a run that has ended.

        Args:
            name: of the run.
            settings: any of those of the export: formats, height, max_faces, texture_size, ….
        """
        body = {"settings": {f"export.{key}": value for key, value in settings.items()}}
        return JobView(**self._json("POST", f"{_job(name)}/export", body))

    def set_priority(self, name: str, priority: int) -> JobView:
        """Change when a queued run has its turn: higher ones are begun first."""
        return JobView(**self._json("POST", f"{_job(name)}/priority", {"priority": priority}))

    def delete(self, name: str) -> None:
        """Remove a run with all its files."""
        with self._open("DELETE", _job(name)):
            pass

    # results

    def events(self, name: str, since: int = 0) -> Iterator[JobEvent]:
        """Follow a run until it comes to rest; the last event is `end` with its record.

        A connection that breaks is taken up again where it was.

        Args:
            name: of the run.
            since: number of the last event that is known.

        Raises:
            ClientError: there is no such run, or the server is gone for good.
        """
        failures = 0
        while True:
            try:
                with self._open("GET", f"{_job(name)}/events", query={"since": since}) as answer:
                    for event in _events(answer):
                        yield event
                        if event.kind == END:
                            return
                        since, failures = event.number or since, 0
            except (OSError, http.client.HTTPException):
                pass
            except ClientError as error:
                if error.status not in (None, 429) or failures >= MAX_FAILURES:
                    raise
                failures += 1
            time.sleep(RETRY_SECONDS)

    def wait(
        self,
        name: str,
        *,
        timeout: float | None = None,
        on_change: Callable[[JobView], None] = lambda job: None,
    ) -> JobView:
        """Wait until a run comes to rest, and return it.

        Args:
            name: of the run.
            timeout: seconds after which to give up; None: never.
            on_change: is told of the run whenever something about it has changed.

        Raises:
            ClientError: it takes longer than that, or the server is gone.
        """
        begin, before = time.monotonic(), None
        while True:
            job = self.job(name)
            if job != before:
                on_change(job)
            if job.state not in AT_WORK:
                return job
            if timeout is not None and time.monotonic() - begin > timeout:
                raise ClientError(
                    f"{name} takes longer than {timeout:g} s.", "wait longer, or stop it."
                )
            before = job
            time.sleep(POLL_SECONDS)

    def files(self, name: str) -> list[FileView]:
        """List the files of a run."""
        return [FileView(**file) for file in self._json("GET", f"{_job(name)}/files")]

    def download(self, name: str, folder: Path) -> list[Path]:
        """Fetch the files of a run into a folder; return where they lie."""
        made: list[Path] = []
        for file in self.files(name):
            path = folder / _safe(file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            place = f"{_job(name)}/files/{quote(file.path)}"
            with self._open("GET", place) as answer, atomic_path(path) as temporary:
                with open(temporary, "wb") as target:
                    shutil.copyfileobj(answer, target)
            made.append(path)
        return made

    def upload(self, model: Path) -> str:
        """Send a model (.glb) for runs to start from, and return its id."""
        answer = self._json("POST", "/models", model.read_bytes())
        return answer["id"]

    # inside

    def _json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        with self._open(method, path, body, query) as answer:
            try:
                return json.loads(answer.read())
            except (OSError, ValueError, http.client.HTTPException):
                raise ClientError(
                    f"{self.url} does not answer as a dreamlab server.", "check the address."
                ) from None

    def _open(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send a request; the answer is to be closed.

        Raises:
            ClientError: it was refused, or there was no answer.
        """
        headers = {"Accept": "application/json, */*", **self._headers}
        data = body if isinstance(body, bytes) else None
        if isinstance(body, bytes):
            headers["Content-Type"] = "model/gltf-binary"
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        address = f"{self.url}{API}{path}" + (f"?{urlencode(query)}" if query else "")
        request = urllib.request.Request(address, data, headers, method=method)
        try:
            return self._opener.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise ClientError(
                f"{self.url} does not answer: {reason}.",
                "start the server with `dreamlab serve`, or check the address.",
            ) from None


def _job(name: str) -> str:
    return f"/jobs/{quote(name, safe='')}"


def _refused(error: urllib.error.HTTPError) -> ClientError:
    try:
        content = json.loads(error.read(MAX_ERROR_BYTES))["error"]
        return ClientError(str(content["message"]), str(content["fix"]), error.code)
    except (ValueError, KeyError, TypeError, OSError):
        return ClientError(f"the server answered {error.code}.", "check the address.", error.code)


def _safe(path: str) -> PurePosixPath:
    """Return a path that stays inside of a folder, whatever the server says.

    Raises:
        ClientError: it does not.
    """
    found = PurePosixPath(path)
    is_inside = found.parts and not found.is_absolute() and ".." not in found.parts
    if not is_inside or "\\" in path or ":" in path:
        raise ClientError(f"the server names a file {path!r}.", "do not use this server.")
    return found


def _events(lines: Iterator[bytes]) -> Iterator[JobEvent]:
    """Read server-sent events; what is cut off at the end is left out."""
    fields: dict[str, str] = {}
    for raw in lines:
        line = raw.decode("utf-8").rstrip("\r\n")
        if line:
            key, _, value = line.partition(":")
            fields[key] = value.removeprefix(" ")
            continue
        if "data" in fields:
            number = int(fields["id"]) if fields.get("id", "").isdigit() else None
            yield JobEvent(number, fields.get("event", "message"), json.loads(fields["data"]))
        fields = {}
