"""Errors a user may see, each with what was wrong and the fix.

Everything that is a user's mistake, a missing part of the installation or a run that went bad is
raised as a `DreamlabError`; the command line prints its two lines and exits with its code, without
a traceback. Anything else that escapes is a bug of ours.
"""

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of the `dreamlab` command."""

    DONE = 0
    BAD_INPUT = 2
    MISSING = 3
    OUT_OF_MEMORY = 4
    DIVERGED = 5
    ROWS_FAILED = 6
    """Some rows of a batch; each says why."""
    STOPPED = 130


class DreamlabError(Exception):
    """An error with a fix.

    Args:
        message: what was wrong, naming the value that was got and what is allowed.
        fix: what the user can do about it, as an instruction.
        code: exit status of the command line.
    """

    code: ExitCode = ExitCode.BAD_INPUT

    def __init__(self, message: str, fix: str, code: ExitCode | None = None) -> None:
        super().__init__(message, fix)
        self.message = message
        self.fix = fix
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} Fix: {self.fix}"


class InputError(DreamlabError):
    """A value that the user gave cannot be used."""

    code = ExitCode.BAD_INPUT


class MissingError(DreamlabError):
    """A package, model or file that is needed is not there."""

    code = ExitCode.MISSING


class MemoryExhaustedError(DreamlabError):
    """The run does not fit into memory."""

    code = ExitCode.OUT_OF_MEMORY


class DivergedError(DreamlabError):
    """The optimisation went bad and could not be brought back; the last good state is kept."""

    code = ExitCode.DIVERGED


def nearest(name: str, known: Iterable[str]) -> str:
    """Phrase a suggestion: the known names closest to `name`, or all of them if none is close."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(option) for option in close) + "?"
    return "allowed: " + ", ".join(options) + "."
