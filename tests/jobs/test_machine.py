import subprocess
import sys

from dreamlab.jobs.machine import peak_memory, peak_rss

PROGRAM = "from dreamlab.jobs.machine import peak_memory; print(peak_memory()['rss_gb'])"
BALLAST = 900_000_000


def test_the_peak_does_not_count_what_held_the_process_before() -> None:
    """A process that held 0.9 GB and then became another program."""
    code = (
        f"import os, sys; ballast = b'x' * {BALLAST}; "
        f"os.execv(sys.executable, [sys.executable, '-c', {PROGRAM!r}])"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.02 < float(result.stdout) < BALLAST / 1e9


def test_the_peak_remains_when_memory_is_given_back() -> None:
    before = peak_rss()
    ballast = b"x" * (before + 100_000_000)
    held = len(ballast)
    del ballast
    assert peak_rss() >= held
    assert peak_memory()["rss_gb"] >= held / 1e9 - 1e-3


def test_a_process_that_does_not_exist_has_held_nothing() -> None:
    assert peak_rss(2**22 + 1) == 0
