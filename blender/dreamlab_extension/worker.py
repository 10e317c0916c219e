"""One thread that asks the server, so that Blender never waits.

    main thread   ask(question) ──▶ thread: question() ──▶ deliver(): then(answer)   main thread

Blender's data may be touched on the main thread alone. A question runs on the thread and must leave
Blender alone; what follows from its answer runs where `deliver` is called.
"""

import traceback
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from .client import ServerError

STOP_SECONDS = 2.0
"""How long the end of the extension waits for a question that is being asked."""

Then = Callable[[Any], None]
Otherwise = Callable[[ServerError], None]


class Worker:
    """A thread that is begun by the first question."""

    def __init__(self) -> None:
        self._questions: SimpleQueue[Callable[[], Callable[[], None]] | None] = SimpleQueue()
        self._answers: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: Thread | None = None

    def ask(self, question: Callable[[], Any], then: Then, otherwise: Otherwise) -> None:
        """Ask on the thread; `deliver` later calls `then` or `otherwise` with what came of it."""

        def asked() -> Callable[[], None]:
            try:
                answer = question()
            except ServerError as error:
                refusal = error
            except Exception as error:
                traceback.print_exc()
                refusal = ServerError(
                    f"This is a bug of the extension ({type(error).__name__}: {error}).",
                    "Report it with the text in Blender's console.",
                    500,
                )
            else:
                return lambda: then(answer)
            return lambda: otherwise(refusal)

        if self._thread is None:
            self._thread = Thread(target=self._work, name="dreamlab", daemon=True)
            self._thread.start()
        self._questions.put(asked)

    def deliver(self) -> int:
        """Act on the answers that have come; return how many there were."""
        count = 0
        while True:
            try:
                act = self._answers.get_nowait()
            except Empty:
                return count
            count += 1
            act()

    def stop(self) -> None:
        """End the thread; questions that were not asked yet are dropped."""
        if self._thread is not None:
            with suppress(Empty):
                while True:
                    self._questions.get_nowait()
            self._questions.put(None)
            self._thread.join(STOP_SECONDS)
            self._thread = None

    def _work(self) -> None:
        while (asked := self._questions.get()) is not None:
            self._answers.put(asked())
