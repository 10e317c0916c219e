"""All runs of a folder: searched, counted, and a queue that takes only so many.

Looking at all folders takes long where there are thousands, so the table of runs is brought up to
date at most once a second, and a page of it that was asked for before is not searched again.
"""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dreamlab.core.errors import InputError
from dreamlab.jobs.queue.index import Index, Page
from dreamlab.web.errors import TooManyError
from dreamlab.web.memory import Memory

MAX_PAGE = 200
"""Runs of one page."""
MAX_WORDS = 200
"""Characters of a search."""
REFRESH_SECONDS = 1.0
"""The list of runs is at most so old, or a moment older where looking at all folders takes long."""
REFRESH_SHARE = 0.05
"""Most of its time that is spent looking at all folders."""
REMEMBERED_PAGES = 100
Asked = tuple[str, tuple[str, ...], bool, str, int, int]
"""Words, states, whether favourites alone, order, offset and limit of a search."""


class Listing:
    """The runs directly inside a folder; may be used by any number of threads."""

    def __init__(self, runs: Path, queue_max: int | None = None) -> None:
        """Look at nothing yet; `queue_max` runs may wait (none: any number)."""
        self.index, self.queue_max = Index(runs), queue_max
        self._refreshing, self._queueing = threading.Lock(), threading.Lock()
        self._begun = self._changed = self._fresh_until = -math.inf  # of the last look
        self._generation = 0  # of the table
        self._pages = Memory[tuple[int, Asked], Page](REMEMBERED_PAGES)

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
            InputError: an unknown state or order, or too long a search.
        """
        if len(words) > MAX_WORDS:
            raise InputError(
                f"the search has {len(words)} characters.", f"use at most {MAX_WORDS}."
            )
        self._refresh()
        asked = self._generation, (words, tuple(states), favourites, order, offset, limit)
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

    def known(self, asked: Asked) -> Page | None:
        """Return what `search` has returned for these words and so on, if that is still so."""
        return self._pages.get((self._generation, asked)) if self._is_fresh() else None

    def count(self) -> dict[str, int]:
        """Return how many runs there are in each state."""
        self._refresh()
        return self.index.count(refresh=False)

    def has_changed(self) -> None:
        """Look at the folders anew the next time; a look that has begun before does not count."""
        self._changed = time.monotonic()

    @contextmanager
    def room_in_queue(self) -> Iterator[None]:
        """Add a run to the queue while inside, one at a time.

        Raises:
            TooManyError: the queue is full.
        """
        with self._queueing:
            if self.queue_max is not None:
                self.has_changed()
                waiting = self.count().get("queued", 0)
                if waiting >= self.queue_max:
                    raise TooManyError(
                        f"{waiting} runs are waiting, at most {self.queue_max} may.",
                        "wait until some are done, or cancel some.",
                    )
            yield
            self.has_changed()

    def _refresh(self) -> None:
        """Bring the table of runs up to date, unless it was a moment ago."""
        if self._is_fresh():
            return
        with self._refreshing:
            if self._is_fresh():
                return
            begin = time.monotonic()
            self.index.refresh()
            self._generation += 1
            end = time.monotonic()
            self._begun = begin
            self._fresh_until = end + max(REFRESH_SECONDS, (end - begin) / REFRESH_SHARE)

    def _is_fresh(self) -> bool:
        return self._begun > self._changed and time.monotonic() < self._fresh_until
