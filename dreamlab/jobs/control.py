"""control.json: what a user asks of a run that another process works on.

    {"request": "stop" | "pause" | "cancel", "time": seconds since 1970}

Any process may write it; the one that runs the job looks at it `POLL_SECONDS` apart and ends after
its step. The file is removed when the job has ended, so a request outlives a crash of the worker.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from dreamlab.core.run_folder import RunFolder, write_json
from dreamlab.jobs.state import now
from dreamlab.training.stop import StopFlag

Request = Literal["stop", "pause", "cancel"]
REQUESTS: tuple[Request, ...] = get_args(Request)
POLL_SECONDS = 0.25


def write_request(folder: RunFolder, request: Request) -> None:
    """Ask something of the process that runs a job."""
    write_json(folder.control, {"request": request, "time": now()})


def read_request(folder: RunFolder) -> Request | None:
    """Read what was asked of a run; None if nothing was, or the file is not one of ours."""
    try:
        content = json.loads(folder.control.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    request = content.get("request") if isinstance(content, dict) else None
    return request if request in REQUESTS else None


@contextmanager
def listening(folder: RunFolder, stop: StopFlag) -> Iterator[None]:
    """Pass on to `stop` what is asked of the run while inside."""
    ended = threading.Event()

    def listen() -> None:
        while not ended.wait(POLL_SECONDS):
            request = read_request(folder)
            if request is not None:
                stop.set(request)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
