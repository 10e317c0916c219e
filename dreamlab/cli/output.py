"""What the command writes: results on stdout, everything else on stderr.

With `--json`, stdout carries one JSON object a line (`{"kind": ..., ...}`), and nothing else.
With `--quiet`, stderr carries warnings and errors only.
"""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dreamlab.core.errors import DreamlabError, ExitCode, InputError

JsonOption = Annotated[
    bool, typer.Option("--json", help="Write machine-readable JSON lines to stdout.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show no progress, only warnings and errors.")
]


@dataclass(frozen=True, slots=True)
class Output:
    """The two streams, and how much goes to them."""

    json: bool = False
    """Write JSON lines to stdout instead of text."""
    quiet: bool = False
    """Write no progress to stderr."""

    @property
    def stderr(self) -> Console:
        return Console(stderr=True, highlight=False, soft_wrap=True)

    def event(self, kind: str, **values: Any) -> None:
        """Write one JSON line, if JSON was asked for."""
        if self.json:
            line = json.dumps({"kind": kind, **values}, ensure_ascii=False, default=str)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def text(self, text: str) -> None:
        """Write a result for people to stdout."""
        if not self.json:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def markup(self, text: str) -> None:
        """Write a result with rich's colours to stdout; escape what is not markup."""
        if not self.json:
            Console(highlight=False, soft_wrap=True).print(text)

    def table(self, table: Table) -> None:
        """Write a table to stdout."""
        if not self.json:
            Console(highlight=False).print(table)

    def note(self, message: str) -> None:
        """Write a line about what is going on to stderr."""
        if not self.quiet:
            self.stderr.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Write a warning to stderr, and as an event."""
        self.event("warning", message=message)
        self.stderr.print(f"[yellow]warning:[/yellow] {escape(message)}")

    def error(self, error: DreamlabError) -> None:
        """Write what was wrong and the fix to stderr, two lines, and as an event."""
        self.event("error", code=int(error.code), message=error.message, fix=error.fix)
        self.stderr.print(f"[red]error:[/red] {escape(error.message)}")
        self.stderr.print(f"[green]fix:[/green] {escape(error.fix)}")


_shared: ContextVar[Output] = ContextVar("shared")


def set_shared(output: Output) -> None:
    """Keep the options that were given before the command."""
    _shared.set(output)


def output_of(json: bool, quiet: bool) -> Output:
    """Join the options given after the command with those given before it."""
    before = _shared.get(Output())
    return Output(before.json or json, before.quiet or quiet)


@contextmanager
def reported(output: Output) -> Iterator[None]:
    """Turn what goes wrong inside into two lines and an exit code, never into a traceback.

    SIGTERM is as Ctrl-C. With DREAMLAB_DEBUG=1 in the environment the traceback is shown as well.
    """
    try:
        with _ended_as_by_ctrl_c():
            yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        output.error(DreamlabError("stopped.", "run the command again.", ExitCode.STOPPED))
        raise typer.Exit(int(ExitCode.STOPPED)) from None
    except Exception as error:
        if os.environ.get("DREAMLAB_DEBUG") == "1":
            sys.stderr.write(traceback.format_exc())
        known = as_dreamlab_error(error)
        if known is None:
            output.error(_bug(error))
            raise typer.Exit(1) from None
        output.error(known)
        raise typer.Exit(int(known.code)) from None


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM unwind what is inside, so that processes that it has started end with it.

    A second one ends this process at once. Whoever calls this in another thread, or has a handler
    of its own, keeps what it has.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def as_dreamlab_error(error: Exception) -> DreamlabError | None:
    """Phrase an error for the user; None if it can only be a bug of ours."""
    if isinstance(error, DreamlabError):
        return error
    if isinstance(error, OSError):
        place = f" {error.filename}" if error.filename else ""
        return InputError(
            f"the system refused to use{place}: {error.strerror or error}.",
            "check the path, its permissions and the free space on the disk.",
        )
    return None


def _bug(error: Exception) -> DreamlabError:
    line = " ".join(str(error).split())[:300]
    return DreamlabError(
        f"this is a bug in dreamlab ({type(error).__name__}: {line}).",
        "run again with DREAMLAB_DEBUG=1 to see where, and report it.",
    )
