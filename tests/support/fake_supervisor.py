"""A real supervisor over fake workers: `python fake_supervisor.py RUNS`; SIGTERM ends it."""

import sys
from pathlib import Path

from dreamlab.jobs import retry
from dreamlab.jobs.queue import supervisor
from dreamlab.training.stop import StopFlag, stop_on_signals

FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))

if __name__ == "__main__":
    retry.PAUSE_SECONDS, retry.MAX_CRASHES = 0.01, 10**6
    supervisor.POLL_SECONDS = 0.02
    boss = supervisor.Supervisor(Path(sys.argv[1]), ["cpu", "cpu"], command=FAKE_WORKER)
    with stop_on_signals(StopFlag()) as stop:
        boss.run(stop)
