"""What the page and the HTTP API can do with the runs of one folder. No torch here.

Both faces go through `Service` alone, and it keeps nothing that is not in the folders but what it
has read of them. What needs the components (checking settings, queueing) is done by a child
process, see `jobs.queue.desk`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args
from urllib.parse import quote

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.core.version import VERSION
from dreamlab.jobs.choices import Option, Part
from dreamlab.jobs.queue import actions
from dreamlab.jobs.queue.desk import Desk
from dreamlab.jobs.queue.wish import Changes, Wish
from dreamlab.web import files, uploads
from dreamlab.web.catalogue import all_recipes
from dreamlab.web.errors import ConflictError, NotFoundError
from dreamlab.web.listing import Listing
from dreamlab.web.looking import Looking
from dreamlab.web.tail import Tail
from dreamlab.web.views import (
    Checked,
    EstimateView,
    FileView,
    Health,
    JobView,
    LayoutView,
    RecipeView,
    SettingView,
)

__all__ = ["ACTIONS", "Action", "Changes", "Service", "Wish"]

Action = Literal["stop", "pause", "cancel", "resume", "duplicate", "favourite", "unfavourite"]
ACTIONS: tuple[Action, ...] = get_args(Action)
API = "/api/v1"
API_VERSION = 1


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
        self.root_path = root_path.rstrip("/")
        self.desk = desk or Desk(self.runs)
        self.listing = Listing(self.runs, queue_max)
        self.search = self.listing.search
        """Find runs."""
        self._looking = Looking(self.runs, self.url)

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
        return Checked(found["config_yaml"], found["unknown_words"], found["objects"], estimate)

    def submit(self, wish: Wish) -> RunFolder:
        """Queue a run.

        Raises:
            InputError: something in the wish is wrong.
            TooManyError: the queue is full.
        """
        model = self._model(wish)
        with self.listing.room_in_queue():
            return RunFolder(self.runs / self.desk.submit(wish, model))

    def rerun(self, folder: RunFolder, changes: Changes) -> RunFolder:
        """Queue a new run with the settings of another one, changed.

        Raises:
            InputError: something in the changes is wrong.
            TooManyError: the queue is full.
        """
        with self.listing.room_in_queue():
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
        return self._looking.describe(folder)

    def unchanged(self, name: str) -> JobView | None:
        """Return what `describe` has last returned for a run, if that is still so."""
        return self._looking.unchanged(name)

    def act(self, folder: RunFolder, action: Action) -> RunFolder:
        """Do something with a run; return it, or the new one that it was copied to.

        Raises:
            ConflictError: that is not possible in its state.
            TooManyError: the queue is full.
        """
        if action in ("favourite", "unfavourite"):
            actions.set_favourite(folder, action == "favourite")
        elif action == "duplicate":
            with self.listing.room_in_queue():
                return actions.duplicate(folder)
        elif action == "resume":
            with self.listing.room_in_queue(), _conflicts():
                actions.resume(folder)
        else:
            with _conflicts():
                actions.request(folder, action)
        self.listing.has_changed()
        return folder

    def set_priority(self, folder: RunFolder, priority: int) -> None:
        """Change when a queued run has its turn: higher ones are begun first.

        Raises:
            ConflictError: it is running.
        """
        with _conflicts():
            actions.set_priority(folder, priority)
        self.listing.has_changed()

    def export(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        """Queue an export of a run that has ended; settings by dotted key, `export.formats`, ….

        Raises:
            InputError: there is nothing to export, or a format or setting is refused.
            MissingError: a format needs Blender, which is not installed.
            TooManyError: the queue is full.
        """
        with self.listing.room_in_queue():
            self.desk.export(folder.root.name, settings)

    def delete(self, folder: RunFolder) -> None:
        """Remove a run with all its files.

        Raises:
            ConflictError: a process works on it.
        """
        with _conflicts():
            actions.delete(folder)
        self.listing.has_changed()

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
        return list(all_recipes())

    def settings(
        self,
        recipe: str,
        quality: str | None = None,
        prompt: str | None = None,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[SettingView]:
        """List the settings of a recipe, for a prompt and beside changed ones; see `Desk.settings`.

        Raises:
            NotFoundError: there is no such recipe.
            InputError: there is no such quality, or the prompt or a setting is refused.
        """
        if recipe not in {each.name for each in all_recipes()}:
            raise NotFoundError(f"there is no recipe {recipe[:80]!r}.", "see the list of recipes.")
        found = self.desk.settings(recipe, quality, prompt, settings)
        return [SettingView(**setting) for setting in found]

    def parts(
        self, recipe: str, quality: str, settings: Mapping[str, Any], prompt: str
    ) -> list[Part]:
        """List what prior a run and what each of its stages could have, beside these settings.

        Raises:
            InputError: no such recipe or quality, or a setting is refused.
        """
        found = self.desk.parts(recipe, quality, settings, prompt)
        return [
            Part(options=[Option(**option) for option in part.pop("options")], **part)
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
        count = self.listing.count()
        return Health(
            "dreamlab", VERSION, API_VERSION, count.get("running", 0), count.get("queued", 0)
        )


@contextmanager
def _conflicts() -> Iterator[None]:
    """Tell what a run's state does not allow from what is wrong with a request."""
    try:
        yield
    except InputError as error:
        raise ConflictError(error.message, error.fix) from None
