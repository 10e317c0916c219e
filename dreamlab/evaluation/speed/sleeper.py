"""A worker that sleeps instead of training, for `dreamlab bench batch`.

python -m dreamlab.evaluation.speed.sleeper SECONDS RUN --device cpu --leash
"""

import sys
import time
from collections.abc import Sequence

from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.jobs.queue import worker
from dreamlab.training.stop import StopFlag


def main(arguments: Sequence[str]) -> int:
    """Carry out a run by sleeping, and return the exit status."""
    seconds = float(arguments[0])

    def sleep(folder: RunFolder, device: str, stop: StopFlag) -> int:
        time.sleep(seconds)
        state.finish(folder, "done")
        return 0

    return worker.main(arguments[1:], sleep)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
