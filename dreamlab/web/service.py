"""What the page and the HTTP API can do with the runs of one folder. No torch here.

Both faces go through `Service` alone, and it keeps nothing that is not in the folders but what it
has read of them. What needs the components (checking settings, queueing) is done by a child
process, see `jobs.queue.desk`.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args
from urllib.parse import quote

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.core.version import VERSION
from dreamlab.jobs import state
from dreamlab.jobs.queue import actions
from dreamlab.jobs.queue.desk import Desk
from dreamlab.jobs.queue.index import Index, Page
from dreamlab.jobs.queue.wish import Changes, Wish
from dreamlab.jobs.recipe_files import QUALITIES, RecipeFile, list_recipes, read_recipe
from dreamlab.web import files, uploads
from dreamlab.web.errors import ConflictError, NotFoundError, TooManyError
from dreamlab.web.progress import Head, last_step, position, read_head
from dreamlab.web.tail import Tail
from dreamlab.web.views import (
    Checked,
    EstimateView,
    FileView,
    Health,
    JobView,
    LayoutView,
    OptionView,
    PartView,
    RecipeView,
    SettingView,
)

__all__ = ["ACTIONS", "Action", "Changes", "Service", "Wish"]

Action = Literal["stop", "pause", "cancel", "resume", "duplicate", "favourite", "unfavourite"]
ACTIONS: tuple[Action, ...] = get_args(Action)
API = "/api/v1"
API_VERSION = 1
MAX_PAGE = 200
"""Runs of one page."""
MAX_WORDS = 200
"""Characters of a search."""
REFRESH_SECONDS = 1.0
"""The list of runs is at most so old, or a moment older where looking at all folders takes long."""
REFRESH_SHARE = 0.05
"""Most of its time that is spent looking at all folders."""
REMEMBERED = 2000
"""Runs of which the last view is kept."""
REMEMBERED_PAGES = 100
RUNNING = state.Job(state="running")
DEFAULT_STAGE = {"representation": {"name": "hashgrid"}}
"""Of a stage that says nothing else, see `systems.settings.StageConfig`."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Service:
    """Reads and changes the runs of a folder; may be used by any number of threads."""

    def __init__(
        self,
        runs: Path,
        *,
        queue_max: int | None = None,
        root_path: str = "",
        desk: Desk | None = None,
    ) -> None:
        """Refer to the runs directly inside a folder, which is made if need be.

        Args:
            runs: the folder.
            queue_max: most runs that may wait; none: any number.
            root_path: what stands before every address, where a proxy adds that.
            desk: that checks settings; a new one if not given.
        """
        self.runs = runs.absolute()
        self.runs.mkdir(parents=True, exist_ok=True)
        self._root = str(self.runs)
        self.queue_max, self.root_path = queue_max, root_path.rstrip("/")
        self.desk = desk or Desk(self.runs)
        self.index = Index(self.runs)
        self._refreshing = threading.Lock()
        self._queueing = threading.Lock()
        self._fresh_until = 0.0
        self._generation = 0  # of the table
        self._pages = Memory[Hashable, Page](REMEMBERED_PAGES)
        self._recipes: list[RecipeView] = []
        self._views = Memory[str, tuple[Hashable, JobView]]()
        self._heads = Memory[str, tuple[int, Head]]()

    def close(self) -> None:
        """End the child process; runs go on."""
        self.desk.close()

    # wishes

    def check(self, wish: Wish) -> Checked:
        """Say what a run would be, without queueing it; the first time takes seconds.

        Raises:
            InputError: something in the wish is wrong.
        """
        found = self.desk.check(wish, self._model(wish))
        estimate = found["estimate"] and EstimateView(**found["estimate"])
        return Checked(found["config_yaml"], found["unknown_words"], estimate)

    def submit(self, wish: Wish) -> RunFolder:
        """Queue a run.

        Raises:
            InputError: something in the wish is wrong.
            TooManyError: the queue is full.
        """
        model = self._model(wish)
        with self._room_in_queue():
            return RunFolder(self.runs / self.desk.submit(wish, model))

    def rerun(self, folder: RunFolder, changes: Changes) -> RunFolder:
        """Queue a new run with the settings of another one, changed.

        Raises:
            InputError: something in the changes is wrong.
            TooManyError: the queue is full.
        """
        with self._room_in_queue():
            return RunFolder(self.runs / self.desk.rerun(folder.root.name, changes))

    def add_model(self, content: bytes) -> str:
        """Keep the bytes of a GLB for a run to start from, and return its id.

        Raises:
            InputError: it is no GLB, or one that is refused.
        """
        return uploads.keep(self.runs, content)

    def _model(self, wish: Wish) -> Path | None:
        return None if wish.model is None else uploads.find(self.runs, wish.model)

    # runs

    def search(
        self,
        words: str = "",
        *,
        states: Sequence[str] = (),
        favourites: bool = False,
        order: str = "newest",
        offset: int = 0,
        limit: int = 50,
    ) -> Page:
        """Find runs, as `Index.search` does; what others have changed may show a second later.

        Raises:
            InputError: an unknown state or order.
        """
        if len(words) > MAX_WORDS:
            raise InputError(
                f"the search has {len(words)} characters.", f"use at most {MAX_WORDS}."
            )
        self._refresh()
        asked = (self._generation, words, tuple(states), favourites, order, offset, limit)
        page = self._pages.get(asked)
        if page is None:
            page = self.index.search(
                words,
                states=states,
                only_favourites=favourites,
                order=order,
                offset=offset,
                limit=min(limit, MAX_PAGE),
                refresh=False,
            )
            self._pages.put(asked, page)
        return page

    def open(self, name: str) -> RunFolder:
        """Open a run by the name of its folder.

        Raises:
            NotFoundError: there is no such run directly inside the folder of runs.
        """
        is_name = name and name.isprintable() and not name.startswith(".")
        folder = RunFolder(self.runs / name)
        if (
            not is_name
            or "/" in name
            or "\\" in name
            or not files.is_plain_folder(folder.root)
            or not files.is_plain_file(folder.config)
        ):
            raise NotFoundError(f"there is no run {name[:80]!r}.", "see the list of runs.")
        return folder

    def describe(self, folder: RunFolder) -> JobView:
        """Show a run as it is now; what has not changed is not read again.

        Raises:
            NotFoundError: it was deleted.
        """
        name = folder.root.name
        try:
            job = self.unchanged(name)
            if job is not None:
                return job
            mark = self._mark(name)  # before it is read: what changes meanwhile is seen next time
            job = self._look(folder)
        except OSError:
            raise NotFoundError(
                f"there is no run {name[:80]!r} any more.", "see the list."
            ) from None
        self._views.put(name, (mark, job))
        return job

    def unchanged(self, name: str) -> JobView | None:
        """Return what `describe` has last returned for a run, if that is still so.

        This is asked for more often than anything else.
        """
        kept = self._views.get(name)
        try:
            if kept is None or kept[0] != self._mark(name):
                return None
        except OSError:
            return None
        job = kept[1]
        if job.state == "running" and not state.is_alive(RunFolder(self.runs / name), RUNNING):
            return None
        return job

    def act(self, folder: RunFolder, action: Action) -> RunFolder:
        """Do something with a run; return it, or the new one that it was copied to.

        Raises:
            ConflictError: that is not possible in its state.
            TooManyError: the queue is full.
        """
        if action in ("favourite", "unfavourite"):
            actions.set_favourite(folder, action == "favourite")
        elif action == "duplicate":
            with self._room_in_queue():
                return actions.duplicate(folder)
        elif action == "resume":
            with self._room_in_queue(), _conflicts():
                actions.resume(folder)
        else:
            with _conflicts():
                actions.request(folder, action)
        self._changed()
        return folder

    def set_priority(self, folder: RunFolder, priority: int) -> None:
        """Change when a queued run has its turn: higher ones are begun first.

        Raises:
            ConflictError: it is running.
        """
        with _conflicts():
            actions.set_priority(folder, priority)
        self._changed()

    def export(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        """Queue an export of a run that has ended; settings by dotted key, `export.formats`, ….

        Raises:
            InputError: there is nothing to export, or a format or setting is refused.
            MissingError: a format needs Blender, which is not installed.
            TooManyError: the queue is full.
        """
        with self._room_in_queue():
            self.desk.export(folder.root.name, settings)

    def delete(self, folder: RunFolder) -> None:
        """Remove a run with all its files.

        Raises:
            ConflictError: a process works on it.
        """
        with _conflicts():
            actions.delete(folder)
        self._changed()

    def files(self, folder: RunFolder) -> list[FileView]:
        """List the files of a run that are meant for users."""
        views: list[FileView] = []
        for path in files.list_files(folder):
            inside = path.relative_to(folder.root).as_posix()
            try:
                size = path.stat().st_size
            except OSError:
                continue
            url = f"{self.url(folder)}/files/{quote(inside)}"
            views.append(FileView(inside, size, files.media_type(path), url))
        return views

    def file(self, folder: RunFolder, path: str) -> Path:
        """Return where a file of a run lies.

        Raises:
            NotFoundError: there is none, or it is not meant for users.
        """
        return files.find_file(folder, path)

    def archive(self, folder: RunFolder) -> Iterator[bytes]:
        """Pack the files of a run that are meant for users into a zip file, piece by piece."""
        return files.zipped(folder)

    def events(self, folder: RunFolder, since: int = 0) -> Tail:
        """Follow the events of a run, from the line after number `since` on."""
        return Tail(folder.events, since)

    def is_final(self, folder: RunFolder) -> bool:
        """Whether nothing more happens to a run until somebody asks for it."""
        return self.describe(folder).state not in ("queued", "running")

    def url(self, folder: RunFolder) -> str:
        """Return the address of a run's record."""
        return f"{self.root_path}{API}/jobs/{quote(folder.root.name)}"

    # what there is

    def recipes(self) -> list[RecipeView]:
        """List the recipes that come with dreamlab."""
        if not self._recipes:
            self._recipes = [_recipe_view(name, read_recipe(name)) for name in list_recipes()]
        return self._recipes

    def settings(self, recipe: str, quality: str | None = None) -> list[SettingView]:
        """List the settings of a recipe.

        Raises:
            NotFoundError: there is no such recipe.
            InputError: there is no such quality.
        """
        if recipe not in list_recipes():
            raise NotFoundError(f"there is no recipe {recipe[:80]!r}.", "see the list of recipes.")
        return [SettingView(**setting) for setting in self.desk.settings(recipe, quality)]

    def parts(self, recipe: str, quality: str, settings: Mapping[str, Any]) -> list[PartView]:
        """List what each stage of a recipe could have, beside these settings.

        Raises:
            InputError: no such recipe or quality, or a setting is refused.
        """
        found = self.desk.parts(recipe, quality, settings)
        return [
            PartView(options=[OptionView(**option) for option in part.pop("options")], **part)
            for part in found
        ]

    def layout(self, boxes: Sequence[Any] | None, prompt: str) -> LayoutView:
        """Check and draw the boxes of a layout, or read them from the words of a prompt.

        Raises:
            InputError: something in them is wrong.
        """
        return LayoutView(**self.desk.layout(boxes, prompt))

    def health(self) -> Health:
        """Say that all is well, and how much there is to do."""
        self._refresh()
        count = self.index.count(refresh=False)
        return Health(
            "dreamlab", VERSION, API_VERSION, count.get("running", 0), count.get("queued", 0)
        )

    # inside

    def _refresh(self) -> None:
        """Bring the table of runs up to date, unless it was a moment ago."""
        if time.monotonic() < self._fresh_until:
            return
        with self._refreshing:
            begin = time.monotonic()
            if begin < self._fresh_until:
                return
            self.index.refresh()
            self._generation += 1
            end = time.monotonic()
            self._fresh_until = end + max(REFRESH_SECONDS, (end - begin) / REFRESH_SHARE)

    def _changed(self) -> None:
        self._fresh_until = 0.0

    @contextmanager
    def _room_in_queue(self) -> Iterator[None]:
        """Add a run to the queue while inside, if there is room; one at a time."""
        with self._queueing:
            if self.queue_max is not None:
                self._changed()
                self._refresh()
                waiting = self.index.count(refresh=False).get("queued", 0)
                if waiting >= self.queue_max:
                    raise TooManyError(
                        f"{waiting} runs are waiting, at most {self.queue_max} may.",
                        "wait until some are done, or cancel some.",
                    )
            yield
            self._changed()

    def _mark(self, name: str) -> Hashable:
        """Return what changes whenever a run does."""
        root = f"{self._root}/{name}"
        job = os.stat(f"{root}/job.json")
        try:
            events = os.stat(f"{root}/events.jsonl").st_size
        except FileNotFoundError:
            events = 0
        return job.st_mtime_ns, job.st_ino, events, os.path.exists(f"{root}/favourite")

    def _look(self, folder: RunFolder) -> JobView:
        try:
            job = state.read(folder)
        except InputError as error:
            if not folder.job.exists():
                raise FileNotFoundError(folder.job) from None
            job = state.Job(state="failed", reason=error.message, fix=error.fix)
        head = self._head(folder)
        where = position(job.state, job.phase, head, last_step(folder.events))
        return JobView(
            name=folder.root.name,
            prompt=job.prompt,
            negative_prompt=head.negative_prompt,
            recipe=job.recipe,
            quality=job.quality,
            seed=job.seed,
            state=job.state,
            phase=job.phase,
            step=where.step,
            steps=where.steps,
            progress=where.progress,
            eta_s=where.eta,
            created=job.created,
            begun=job.started,
            ended=job.finished,
            reason=job.reason,
            fix=job.fix,
            favourite=folder.favourite.exists(),
            priority=job.priority,
            url=self.url(folder),
        )

    def _head(self, folder: RunFolder) -> Head:
        changed = folder.config.stat().st_mtime_ns
        kept = self._heads.get(folder.root.name)
        if kept is None or kept[0] != changed:
            kept = changed, read_head(folder.config)
            self._heads.put(folder.root.name, kept)
        return kept[1]


class Memory(Generic[K, V]):
    """Keeps what was used last."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size, self._lock = size, threading.Lock()
        self._kept: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)


@contextmanager
def _conflicts() -> Iterator[None]:
    """Tell what a run's state does not allow from what is wrong with a request."""
    try:
        yield
    except InputError as error:
        raise ConflictError(error.message, error.fix) from None


def _recipe_view(name: str, recipe: RecipeFile) -> RecipeView:
    def names(part: str) -> str:
        found: list[Any] = []
        for stage in recipe.stages.values():
            found.append((DEFAULT_STAGE | stage).get(part, {}).get("name", ""))
        return " → ".join(found)

    return RecipeView(
        name=name,
        summary=recipe.description,
        prior=str(recipe.prior.get("model", "toybox")),
        representation=names("representation"),
        guidance=names("guidance"),
        needs=dict(recipe.cost),
        qualities=list(QUALITIES),
    )
