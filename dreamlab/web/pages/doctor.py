"""The doctor in a process of its own: its checks load torch, which the page must not.

One examination at a time; its findings are kept until the next one.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

COMMAND = (sys.executable, "-m", "dreamlab", "doctor", "--json", "--no-network")


class Doctor:
    """Examines the machine; safe to use from several threads."""

    def __init__(self, runs: Path) -> None:
        """Start nothing yet; `runs` is the folder that runs are written to."""
        self._command = [*COMMAND, "--output", str(runs)]
        self._process: subprocess.Popen[str] | None = None
        self._findings: list[dict[str, str]] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin an examination, unless one is under way."""
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )

    @property
    def is_busy(self) -> bool:
        """Whether an examination is under way."""
        self._collect()
        return self._process is not None

    @property
    def findings(self) -> list[dict[str, str]] | None:
        """What the last examination found: area, status, detail and fix of each; None: none yet."""
        self._collect()
        return self._findings

    def _collect(self) -> None:
        with self._lock:
            if self._process is None or self._process.poll() is None:
                return
            output, _ = self._process.communicate()
            self._process = None
            events = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
            self._findings = [event for event in events if event.get("kind") == "finding"]
