"""One run as it is now: its record, settings and events read into a `JobView`.

A page looks every second, at runs that mostly stay as they are. So a view is kept beside a mark
that changes whenever the run does, and only then is anything read again.
"""

import os
from collections.abc import Callable, Hashable
from pathlib import Path

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import lock, state
from dreamlab.web.errors import NotFoundError
from dreamlab.web.memory import Memory
from dreamlab.web.progress import Head, last_step, position, read_head
from dreamlab.web.views import JobView

REMEMBERED = 2000
"""Runs of which the last view is kept."""


class Looking:
    """Reads the runs of one folder; may be used by any number of threads."""

    def __init__(self, runs: Path, url: Callable[[RunFolder], str]) -> None:
        """Read nothing yet; `url` gives the address of a run's record."""
        self._runs, self._url = str(runs), url
        self._views = Memory[str, tuple[Hashable, JobView]](REMEMBERED)
        self._heads = Memory[str, tuple[int, Head]](REMEMBERED)

    def describe(self, folder: RunFolder) -> JobView:
        """Show a run as it is now; what has not changed is not read again.

        Raises:
            NotFoundError: it was deleted.
        """
        name = folder.root.name
        job = self.unchanged(name)
        if job is not None:
            return job
        try:
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

        This is asked for more often than anything else, and with any text for a name: what no
        run was opened by is not known here, and not looked for.
        """
        kept = self._views.get(name)
        try:
            if kept is None or kept[0] != self._mark(name):
                return None
        except OSError:
            return None
        job = kept[1]
        is_so = job.state != "running" or lock.is_held(RunFolder(Path(self._runs, name)).lock)
        return job if is_so else None

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
            prompt=job.prompt or head.prompt,
            negative_prompt=head.negative_prompt,
            recipe=job.recipe or head.recipe,
            quality=job.quality or head.quality,
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
            url=self._url(folder),
        )

    def _head(self, folder: RunFolder) -> Head:
        changed = folder.config.stat().st_mtime_ns
        kept = self._heads.get(folder.root.name)
        if kept is None or kept[0] != changed:
            kept = changed, read_head(folder.config)
            self._heads.put(folder.root.name, kept)
        return kept[1]

    def _mark(self, name: str) -> Hashable:
        """Return what changes whenever a run does."""
        root = f"{self._runs}/{name}"
        job = os.stat(f"{root}/job.json")
        try:
            events = os.stat(f"{root}/events.jsonl").st_size
        except FileNotFoundError:
            events = 0
        return job.st_mtime_ns, job.st_ino, events, os.path.exists(f"{root}/favourite")
