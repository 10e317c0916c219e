"""What a process that was forked sees of the request, for the tests of the fork server."""

import os
import signal
import sys
import threading
from collections.abc import Sequence

SEEN_AT_IMPORT = os.environ.get("EXAMPLE")


def main(arguments: Sequence[str]) -> int:
    what = arguments[0]
    if what == "tell":
        print(os.environ.get("EXAMPLE"), SEEN_AT_IMPORT, os.getcwd(), *sys.argv[1:])  # noqa: T201
        print(os.getsid(0) == os.getpid(), threading.active_count(), file=sys.stderr)  # noqa: T201
    elif what == "exit":
        sys.exit(int(arguments[1]) if len(arguments) > 1 else "for a reason")
    elif what == "raise":
        raise ValueError("as told")
    elif what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "wait":
        print("waits", flush=True)  # noqa: T201
        os.read(0, 1)
        print("let go", flush=True)  # noqa: T201
    return 0
