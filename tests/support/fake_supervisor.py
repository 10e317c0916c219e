"""A real supervisor over fake workers: `python fake_supervisor.py RUNS [fork]`; SIGTERM ends it.

It writes a line once it listens to signals.
With `fork` the workers are forked from a process that has imported what they need.
"""

import os
import sys
from pathlib import Path

from dreamlab.jobs import retry
from dreamlab.jobs.queue import supervisor
from dreamlab.training.stop import StopFlag, stop_on_signals

FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
FORKED = (sys.executable, "-m", "fake_worker")

if __name__ == "__main__":
    retry.PAUSE_SECONDS, retry.MAX_CRASHES = 0.01, 10**6
    supervisor.POLL_SECONDS = 0.02
    command = FORKED if "fork" in sys.argv else FAKE_WORKER
    boss = supervisor.Supervisor(Path(sys.argv[1]), ["cpu", "cpu"], command=command)
    with stop_on_signals(StopFlag()) as stop:
        os.write(1, b"listens\n")
        boss.run(stop)
