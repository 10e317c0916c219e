"""One run as it is now: its record, settings and events read into a `JobView`.

A page looks every second, at runs that mostly stay as they are. So a view is kept beside a mark
that changes whenever the run does, and only then is anything read again.
"""

from collections.abc import Callable, Hashable

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.web.errors import NotFoundError
from dreamlab.web.memory import Memory
from dreamlab.web.progress import Head, last_step, position, read_head
from dreamlab.web.views import JobView

REMEMBERED = 2000
"""Runs of which the last view is kept."""


class Looking:
    """Reads runs; may be used by any number of threads."""

    def __init__(self, url: Callable[[RunFolder], str]) -> None:
        """Read nothing yet; `url` gives the address of a run's record."""
        self._url = url
        self._views = Memory[str, tuple[Hashable, JobView]](REMEMBERED)
        self._heads = Memory[str, tuple[int, Head]](REMEMBERED)

    def describe(self, folder: RunFolder) -> JobView:
        """Show a run as it is now; what has not changed is not read again.

        Raises:
            NotFoundError: it was deleted.
        """
        name = folder.root.name
        try:
            mark = _mark(folder)
            kept = self._views.get(name)
            if kept is not None and kept[0] == mark:
                job = kept[1]
                if job.state != "running" or state.is_alive(folder, state.Job(state="running")):
                    return job
            job = self._look(folder)
        except OSError:
            raise NotFoundError(
                f"there is no run {name[:80]!r} any more.", "see the list."
            ) from None
        self._views.put(name, (mark, job))
        return job

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


def _mark(folder: RunFolder) -> Hashable:
    """Return what changes whenever a run does."""
    job = folder.job.stat()
    try:
        events = folder.events.stat().st_size
    except FileNotFoundError:
        events = 0
    return job.st_mtime_ns, job.st_ino, events, folder.favourite.exists()
