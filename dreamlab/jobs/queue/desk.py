"""Where wishes are checked and queued by a process that must itself stay without torch.

Settings are checked against the components, and those load torch. So one child process
(`desk_process`) does that for as long as it is needed: the first answer takes the seconds of that
import, later ones a fraction of one. A child that has died is started anew with the next question.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dreamlab.core.errors import DreamlabError, ExitCode, InputError, MissingError
from dreamlab.jobs.queue.wish import Changes, Wish

CHILD = (sys.executable, "-m", "dreamlab.jobs.queue.desk_process")
SECONDS = 120.0
"""For an answer, the import of torch on a busy machine included."""
END_SECONDS = 5.0
KINDS = {int(ExitCode.BAD_INPUT): InputError, int(ExitCode.MISSING): MissingError}


class DeskError(DreamlabError):
    """The child has died or does not answer; nothing is known of the wish."""


class Desk:
    """Checks wishes for one folder of runs; may be asked by several threads, one at a time."""

    def __init__(self, runs: Path, command: Sequence[str] = CHILD) -> None:
        """Start nothing yet.

        Args:
            runs: the folder of runs.
            command: that starts the child.
        """
        self.runs, self.command = runs, [*command, str(runs)]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def check(self, wish: Wish, model: Path | None = None) -> dict[str, Any]:
        """Resolve a wish: config_yaml, unknown_words, estimate.

        Raises:
            InputError: something in it is wrong.
        """
        return self._ask("check", wish=asdict(wish), model=model and str(model))

    def submit(self, wish: Wish, model: Path | None = None) -> str:
        """Queue a run and return the name of its folder.

        Raises:
            InputError: something in the wish is wrong.
        """
        return self._ask("submit", wish=asdict(wish), model=model and str(model))

    def rerun(self, name: str, changes: Changes) -> str:
        """Queue a run with the settings of another one, changed; return the name of its folder.

        Raises:
            InputError: something in the changes is wrong.
        """
        return self._ask("rerun", name=name, changes=asdict(changes))

    def export(self, name: str, settings: Mapping[str, Any]) -> None:
        """Queue an export of a run that has ended.

        Raises:
            InputError: the run cannot be exported, or a setting is refused.
            MissingError: a format needs Blender, which is not installed.
        """
        self._ask("export", name=name, settings=dict(settings))

    def settings(
        self,
        recipe: str,
        quality: str | None = None,
        prompt: str | None = None,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[dict[str, Any]]:
        """List the settings of a recipe: key, type, choices, default, doc.

        Args:
            recipe: its name.
            quality: whose defaults are told; those of standard if not given.
            prompt: of several things may have other defaults.
            settings: changed ones; components that they name have settings of their own.

        Raises:
            InputError: no such recipe or quality, or the prompt or a setting is refused.
        """
        asked = {"recipe": recipe, "quality": quality, "prompt": prompt}
        return self._ask("settings", settings=dict(settings), **asked)

    def parts(
        self, recipe: str, quality: str, settings: Mapping[str, Any], prompt: str
    ) -> list[dict[str, Any]]:
        """List what each stage of a run of a prompt could have, see `jobs.parts`.

        Raises:
            InputError: no such recipe or quality, or a setting is refused.
        """
        asked = {"recipe": recipe, "quality": quality, "prompt": prompt}
        return self._ask("parts", settings=dict(settings), **asked)

    def layout(self, boxes: Sequence[Any] | None, prompt: str) -> dict[str, Any]:
        """Check and draw boxes, or those that a prompt says: boxes, picture (PNG, base64).

        Raises:
            InputError: something in them is wrong.
        """
        return self._ask("layout", boxes=boxes, prompt=prompt)

    def start(self) -> None:
        """Start the child now, so that the first question waits less."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _ask(self, do: str, **values: Any) -> Any:
        line = json.dumps({"do": do, **values}).encode() + b"\n"
        if not self._lock.acquire(timeout=SECONDS):
            raise DeskError("too much is being checked at once.", "try again in a while.")
        try:
            answer = json.loads(self._exchange(self._running(), line))
        except (OSError, ValueError):
            self._end()
            raise DeskError(
                "the process that checks settings has died.", "try again; it starts anew."
            ) from None
        finally:
            self._lock.release()
        if "error" not in answer:
            return answer["result"]
        error = answer["error"]
        if error["code"] is None:
            raise DeskError(f"this is a bug in dreamlab ({error['message']}).", "report it.")
        kind = KINDS.get(error["code"], DreamlabError)
        raise kind(error["message"], error["fix"], ExitCode(error["code"]))

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is the server's; the child ends with its input
            )
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], line: bytes) -> bytes:
        """Send a line and return the one that comes back.

        Raises:
            OSError: the child is gone, or was killed because it neither listens nor answers.
        """
        assert process.stdin is not None and process.stdout is not None
        patience = threading.Timer(SECONDS, process.kill)
        patience.start()
        try:
            process.stdin.write(line)
            process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            patience.cancel()
        if not answer.endswith(b"\n"):
            raise BrokenPipeError
        return answer

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with suppress(OSError):  # what it did not read
            process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
