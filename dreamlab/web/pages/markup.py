"""Small pieces of HTML that several pages show; what comes from users is escaped here."""

import time
from collections.abc import Iterable, Mapping
from html import escape
from urllib.parse import quote

from dreamlab.core.errors import DreamlabError

STATE_WORDS = {
    "queued": "Waiting",
    "running": "Running",
    "paused": "Paused",
    "done": "Done",
    "failed": "Failed",
    "stopped": "Stopped, kept",
    "cancelled": "Cancelled",
}
"""What a state is called on the page."""


THE_JOB = "the job"
"""What messages call the form that was sent, see `jobs.queue.wish`."""


def run_link(name: str) -> str:
    """Return the address of a run's page, relative to the other pages."""
    return f"run?name={quote(name)}"


def badge(state: str) -> str:
    """Show a state as a coloured word."""
    word = STATE_WORDS.get(state, state)
    return f'<span class="badge badge-{escape(state)}">{escape(word)}</span>'


def chips(texts: Iterable[str]) -> str:
    """Show short facts side by side."""
    shown = "".join(f'<span class="chip">{escape(text)}</span>' for text in texts if text)
    return f'<span class="chips">{shown}</span>'


def empty(title: str, text: str, link: str = "", link_text: str = "") -> str:
    """Say that there is nothing yet, and what to do about it."""
    action = f'<a class="action" href="{escape(link)}">{escape(link_text)}</a>' if link else ""
    return f'<div class="nothing"><h3>{escape(title)}</h3><p>{escape(text)}</p>{action}</div>'


def problem(error: DreamlabError) -> str:
    """Show an error with its fix; there is only one form here, so it is not named."""
    return notice("bad", error.message.removeprefix(f"{THE_JOB}: "), error.fix)


def notice(kind: str, message: str, more: str = "") -> str:
    """Show a message; `kind` is good, note or bad."""
    role = "alert" if kind == "bad" else "status"
    detail = f"<p>{escape(more)}</p>" if more else ""
    return f'<div class="notice {kind}" role="{role}"><b>{escape(message)}</b>{detail}</div>'


def facts(pairs: Mapping[str, object]) -> str:
    """Show names with values; those that are None are left out."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in pairs.items()
        if value is not None and value != ""
    )
    return f'<dl class="facts">{rows}</dl>'


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Show a table; cells are HTML already, heads are text."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        '<div class="table-wrap"><table class="table">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def title(text: str, about: str = "") -> str:
    """Open a page with its name and what it is for."""
    more = f"<p>{escape(about)}</p>" if about else ""
    return f'<header class="page-title"><h1>{escape(text)}</h1>{more}</header>'


def duration(seconds: int | float | None) -> str:
    """Write a time as a person would: 45 s, 3 min, 1 h 20 min."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def ago(moment: int | float | None, now: int | float | None = None) -> str:
    """Write how long ago a moment, in seconds since 1970, was."""
    if not moment:
        return ""
    seconds = max(0.0, (time.time() if now is None else now) - moment)
    if seconds < 60:
        return "just now"
    for size, word in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        number = int(seconds // size)
        if number:
            return f"{number} {word}{'s' if number > 1 else ''} ago"
    return "just now"


def size_of(number: int) -> str:
    """Write a number of bytes: 788 kB, 1.3 MB."""
    if number >= 1_000_000:
        return f"{number / 1_000_000:.1f} MB"
    return f"{max(1, round(number / 1000))} kB"
