"""Who holds a run: a lock that the kernel frees when its holder dies, and a heartbeat.

`job.lock` in the run folder is locked by the process that works on the run, for as long as it does
(`flock`; on Windows a locked byte). A killed process loses its lock at once, and a process id that
was given to another program cannot be mistaken for the holder. While it is held, a thread touches
the file every `BEAT_SECONDS`: on a file system that several machines share without passing locks
on, the age of the file is what the others can see.

Only the holder of a run writes its job.json, so what it has read stays true until it lets go.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamlab.core.errors import InputError

BEAT_SECONDS = 5.0
"""Between two touches of a lock that is held."""
STALE_SECONDS = 60.0
"""A lock on another machine that was not touched for so long is nobody's."""
WAIT_SECONDS = 0.5
"""How long to try: who only looks whether a lock is free holds it for an instant."""
RETRY_SECONDS = 0.005


class BusyError(InputError):
    """The run is held by another process."""


@contextmanager
def hold(path: Path, beat: bool = True) -> Iterator[None]:
    """Hold a lock file, which is made if need be; nothing else can hold it meanwhile.

    Args:
        path: of the lock, in a folder that exists.
        beat: touch it while it is held; not needed for what takes an instant.

    Raises:
        BusyError: it is held, in this process or another one.
        InputError: its folder is gone or cannot be written.
    """
    descriptor = _take(path)
    ended = threading.Event()
    try:
        os.utime(descriptor if os.utime in os.supports_fd else path)
        if beat:
            threading.Thread(target=_beat, args=(path, ended), daemon=True).start()
        yield
    finally:
        ended.set()
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process of this machine holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def beats(path: Path) -> bool:
    """Whether the lock was touched lately, as it is while a process anywhere holds it."""
    try:
        return time.time() - path.stat().st_mtime < STALE_SECONDS
    except OSError:
        return False


def _take(path: Path) -> int:
    """Lock the file and return its descriptor; closing it lets go."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror or error}.",
                "check that the run is still there and that you may write to its folder.",
            ) from None
        if _try_lock(descriptor) and _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise BusyError(
                f"{path.parent} is in use by another process.", "wait for it, or stop it first."
            )
        time.sleep(RETRY_SECONDS)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the locked file is still the one at `path`: the folder may have been replaced."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _try_lock(descriptor: int, shared: bool = False) -> bool:
    """Lock an open file if nobody else holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        try:
            os.utime(path)
        except OSError:
            return
