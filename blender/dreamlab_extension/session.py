"""What the extension knows of the server, and the runs that it follows until their models are here.

A followed run goes through

    asked ──▶ queued, running (polled) ──▶ done, stopped ──▶ fetched: its model waits to be imported
                                      └──▶ failed, cancelled, …: followed no longer

The server owns the run: closing Blender or losing the network ends nothing, and `follow` takes it
up again by its name. No Blender here; `timer.py` calls `step` on the main thread.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .client import Client, Json, ServerError
from .worker import Worker

POLL_SECONDS = 1.0
"""Between two looks at a run."""
MAX_PAUSE_SECONDS = 30.0
"""Longest pause after looks that failed; it doubles with each."""
HISTORY = 30
"""Runs that the history shows."""
MODEL = "exports/model.glb"
PREVIEWS, PREVIEW = "previews/", "preview.png"
WITH_MODEL = ("done", "stopped")
GOING_ON = ("queued", "running", "paused")


@dataclass
class Followed:
    """A run that is followed; `job` is what the server last said of it."""

    job: Json
    folder: Path
    """For its temporary files."""
    ticket: str = ""
    """Which refinement it belongs to, if any; see `refining.py`."""
    picture: Path | None = None
    """The newest preview."""
    model: Path | None = None
    """The model, once it has been fetched."""
    trouble: str = ""
    """Why the last look failed."""
    failures: int = 0
    due: float = 0.0
    """When to look next."""
    is_asked: bool = False

    @property
    def name(self) -> str:
        return self.job["name"]

    @property
    def state(self) -> str:
        return self.job["state"]


@dataclass
class Session:
    """Everything that is not Blender's; main thread only."""

    worker: Worker = field(default_factory=Worker)
    client: Client | None = None
    health: Json | None = None
    """What the server says of itself; None before a connection was tested."""
    recipes: list[Json] = field(default_factory=list)
    runs: list[Json] = field(default_factory=list)
    """The newest runs on the server."""
    followed: dict[str, Followed] = field(default_factory=dict)
    problem: ServerError | None = None
    """What went wrong last."""
    busy: str = ""
    """What is being done for the user right now."""
    version: int = 0
    """Grows with every change that can be seen."""
    on_problem: Callable[[ServerError], None] = lambda error: None
    now: float = 0.0
    _folder: Path | None = None

    def use(self, address: str, token: str, user: str = "") -> None:
        """Ask this server from now on; a change of address forgets the other one.

        Raises:
            ServerError: the address is none.
        """
        client = Client(address, token, user)
        if self.client is not None and self.client.address != client.address:
            self._forget()
        self.client = client

    def connect(self) -> None:
        """Ask who the server is, what it can do and what runs it has."""
        client = self._client

        def then(answer: Any) -> None:
            self.health, self.recipes, self.runs = answer
            self.problem = None

        def otherwise(error: ServerError) -> None:
            self.health = None
            self.report(error)

        self._ask(
            "Connecting",
            lambda: (client.health(), client.recipes(), client.jobs(HISTORY)),
            then,
            otherwise,
        )

    def refresh(self) -> None:
        """Ask for the newest runs."""
        client = self._client
        self._ask("Reading the history", lambda: client.jobs(HISTORY), self._set_runs, self.report)

    def submit(
        self,
        fields: Json,
        *,
        model: Path | None = None,
        ticket: str = "",
        settled: Callable[[str | None], None] = lambda name: None,
    ) -> None:
        """Queue a run and follow it.

        Args:
            fields: of the job: prompt, recipe, quality, seed.
            model: a GLB that the run starts from.
            ticket: of the refinement that the run is for.
            settled: called with the name of the run, or with None if the server refused it.
        """
        client = self._client

        def question() -> Json:
            if model is None:
                return client.submit(**fields)
            try:
                return client.submit(**fields, model=client.upload_model(model))
            finally:
                model.unlink(missing_ok=True)

        def then(job: Json) -> None:
            self.problem = None
            self.follow(job, ticket)
            settled(job["name"])

        def otherwise(error: ServerError) -> None:
            settled(None)
            self.report(error)

        self._ask("Sending the model" if model else "Sending", question, then, otherwise)

    def act(self, name: str, action: str) -> None:
        """Stop or cancel a run."""
        client = self._client

        def then(job: Json) -> None:
            if name in self.followed:
                self.followed[name].job, self.followed[name].due = job, self.now

        self._ask("Asking the run to end", lambda: client.act(name, action), then, self.report)

    def follow(self, job: Json, ticket: str = "") -> None:
        """Follow a run until its model is here."""
        self.let_go(job["name"])
        run = Followed(job, self._new_folder(), ticket, due=self.now)
        self.followed[run.name] = run
        self._set_runs([job, *(run for run in self.runs if run["name"] != job["name"])])

    def let_go(self, name: str) -> None:
        """Follow a run no longer; its files are removed."""
        found = self.followed.pop(name, None)
        if found is not None:
            shutil.rmtree(found.folder, ignore_errors=True)
        self.version += 1

    def report(self, error: ServerError) -> None:
        """Keep what went wrong for the panel, and tell the user."""
        self.problem = error
        self.version += 1
        self.on_problem(error)

    def step(self, now: float) -> None:
        """Act on what the server answered, and look after the runs whose turn it is."""
        self.now = now
        if self.worker.deliver():
            self.version += 1
        for run in list(self.followed.values()):
            if not run.is_asked and run.model is None and now >= run.due:
                self._look(run)

    def close(self) -> None:
        """End the thread, remove all temporary files and forget the server."""
        self.worker.stop()
        self._forget()
        self.client = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def new_file(self, name: str) -> Path:
        """Return the path of a temporary file of this name, in a folder of its own."""
        return self._new_folder() / name

    def _new_folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="dreamlab-"))
        return Path(tempfile.mkdtemp(dir=self._folder))

    @property
    def _client(self) -> Client:
        if self.client is None:
            raise ServerError("No server was chosen.", "Type its address.")
        return self.client

    def _forget(self) -> None:
        """Forget what the server said."""
        self.health, self.recipes, self.runs, self.busy = None, [], [], ""
        self.problem = None
        for name in list(self.followed):
            self.let_go(name)

    def _ask(
        self,
        busy: str,
        question: Callable[[], Any],
        then: Callable[[Any], None],
        otherwise: Callable[[ServerError], None],
    ) -> None:
        address = self._client.address

        def finished(act: Callable[[Any], None]) -> Callable[[Any], None]:
            def finish(answer: Any) -> None:
                if self.client is not None and self.client.address == address:
                    self.busy = ""
                    act(answer)

            return finish

        self.busy = busy
        self.version += 1
        self.worker.ask(question, finished(then), finished(otherwise))

    def _set_runs(self, runs: list[Json]) -> None:
        self.runs = runs[:HISTORY]
        self.version += 1

    def _look(self, run: Followed) -> None:
        """Ask how a run is; fetch its newest preview, and its model when it has ended with one."""
        client, name, folder, known = self._client, run.name, run.folder, run.picture
        run.is_asked = True

        def question() -> tuple[Json, Path | None, Path | None]:
            job = client.job(name)
            paths = client.files(name)
            has_model = job["state"] in WITH_MODEL
            model = _fetch_model(client, name, paths, folder) if has_model else None
            return job, _fetch_picture(client, name, paths, folder) or known, model

        def then(answer: tuple[Json, Path | None, Path | None]) -> None:
            if self.followed.get(name) is not run:
                return
            run.job, run.picture, run.model = answer
            run.is_asked, run.trouble, run.failures = False, "", 0
            run.due = self.now + POLL_SECONDS
            self._set_runs([run.job if old["name"] == run.name else old for old in self.runs])
            if run.state not in (*GOING_ON, *WITH_MODEL):
                self._end_without_model(run)

        def otherwise(error: ServerError) -> None:
            if self.followed.get(name) is not run:
                return
            run.is_asked, run.trouble, run.failures = False, error.message, run.failures + 1
            run.due = self.now + min(MAX_PAUSE_SECONDS, POLL_SECONDS * 2**run.failures)
            if not error.may_pass:
                self.let_go(run.name)
                self.report(error)

        self.worker.ask(question, then, otherwise)

    def _end_without_model(self, run: Followed) -> None:
        self.let_go(run.name)
        if run.state == "failed":
            said = run.job.get("reason") or "the server does not say why."
            self.report(ServerError(f"{run.name} failed: {said}", run.job.get("fix") or ""))


def _fetch_model(client: Client, name: str, paths: list[str], folder: Path) -> Path:
    if MODEL not in paths:
        raise ServerError(
            f"{name} has no {MODEL}.",
            "If it had begun, export it on the server: dreamlab export RUN.",
            404,
        )
    return client.download(name, MODEL, folder / "model.glb")


def _fetch_picture(client: Client, name: str, paths: list[str], folder: Path) -> Path | None:
    """Fetch the newest preview unless it is here; before the first one there is none."""
    previews = sorted(path for path in paths if path.startswith(PREVIEWS))
    newest = PREVIEW if PREVIEW in paths else previews[-1] if previews else None
    if newest is None:
        return None
    target = folder / f"preview-{newest.replace('/', '-')}"
    return target if target.exists() else client.download(name, newest, target)
