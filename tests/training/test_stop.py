import os
import signal
import subprocess
import sys

import pytest

from dreamlab.training.stop import StopFlag, stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_sets_the_flag(number: signal.Signals) -> None:
    with stop_on_signals(StopFlag()) as flag:
        assert not flag.is_set
        os.kill(os.getpid(), number)
        assert flag.is_set


def test_the_second_interrupt_aborts() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals(StopFlag()) as flag:
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.is_set
        os.kill(os.getpid(), signal.SIGINT)


def test_earlier_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals(StopFlag()):
        os.kill(os.getpid(), signal.SIGINT)
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert after == before


def test_the_second_termination_ends_the_process() -> None:
    code = (
        "import os, signal\n"
        "from dreamlab.training.stop import StopFlag, stop_on_signals\n"
        "with stop_on_signals(StopFlag()) as flag:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    assert flag.is_set\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False)
    assert result.returncode == -signal.SIGTERM


def test_of_several_wishes_the_one_that_loses_least_or_ends_most_counts():
    flag = StopFlag()
    for given, kept in [("hand_back", "hand_back"), ("stop", "stop"), ("pause", "stop")]:
        flag.set(given)
        assert flag.is_set and flag.wish == kept
    flag.set("cancel")
    assert flag.wish == "cancel"
