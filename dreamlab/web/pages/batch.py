"""Batch: a file of rows is checked, shown with what it takes, and queued; bad rows say why.

The address names a batch that was started (batch?id=...), and its table is read from the folders.
Rows that are typed stand in the address too, behind the #: there may be more of them than a server
takes in an address, and this part is not sent.
"""

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from dreamlab.core.config import Plain
from dreamlab.core.config import build as build_settings
from dreamlab.core.errors import DreamlabError, InputError
from dreamlab.web.pages import batch_record, markup
from dreamlab.web.pages.batch_record import Batched
from dreamlab.web.pages.changes import as_text
from dreamlab.web.pages.parts import QUIET, held, html, on_load
from dreamlab.web.service import Service

KINDS = [
    ("One prompt a line", ".txt"),
    ("YAML", ".yaml"),
    ("CSV", ".csv"),
    ("JSON Lines", ".jsonl"),
]
EXAMPLE = """a red mushroom
a green cone
a yellow duck
"""
SECONDS = 3.0
FORMATS_LINK = "https://github.com/dreamlab-3d/dreamlab/blob/main/docs/batches.md"
REMEMBER = """(rows, kind) => {
  const typed = rows ? '#' + new URLSearchParams({rows, kind}) : '';
  history.replaceState(null, '', window.location.pathname + window.location.search + typed);
}"""
"""Puts the rows into the address: they outlive a refresh, a lost connection and the way back."""
RECALL = """(rows, kind) => {
  const typed = new URLSearchParams(window.location.hash.slice(1));
  return [typed.get('rows') ?? rows, typed.get('kind') ?? kind];
}"""
GO = "(id) => { if (id) window.location.assign('batch?id=' + encodeURIComponent(id)); }"


def build(service: Service) -> None:
    """Lay out the page inside the Blocks that are open."""
    _Page(service).wire()


class _Page:
    """The fields of the page, and what happens when they are used."""

    def __init__(self, service: Service) -> None:
        """Lay everything out."""
        self.service = service
        self.read, self.checked, self.identity = held([]), held(""), held("")
        about = "Many prompts at once: check them, then queue them for the night."
        html(markup.title("Batch", about))
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=3, min_width=320):
                self.text = gr.Textbox(
                    label="Rows", lines=9, max_lines=20, placeholder=EXAMPLE, elem_id="rows"
                )
                self.kind = gr.Radio(KINDS, value=".txt", label="Written as", elem_id="kind")
            with gr.Column(scale=2, min_width=300, elem_classes="side"):
                self._lay_out_side()
        self.failed, self.said = html(""), html("")
        self.table = html("", elem_id="batch-table")
        self.go_on = gr.Button("Queue the rows that wait", visible=False, elem_id="go-on")
        self.made = gr.Textbox(visible="hidden")

    def _lay_out_side(self) -> None:
        kinds = [".txt", ".yaml", ".yml", ".csv", ".jsonl"]
        self.upload = gr.File(label="Or a file", file_types=kinds, height=140)
        self.check = gr.Button("Check the rows", elem_id="check-rows")
        self.start = gr.Button(
            "Queue all good rows", variant="primary", interactive=False, elem_id="queue-rows"
        )
        html(
            f'<p class="hint">How rows are written: <a href="{FORMATS_LINK}">batches.md</a>. '
            "Nothing runs before you queue it.</p>"
        )
        self.earlier = html("")

    def wire(self) -> None:
        """Say what follows on what."""
        table = [self.said, self.table, self.go_on]
        form, typed = [self.text, self.kind, self.upload], [self.text, self.kind]
        on_load(None, typed, typed, js=RECALL)
        for field in typed:
            # `change`: `input` of a text tells of keys alone, not of what is pasted
            field.change(None, typed, None, js=REMEMBER)
        self.check.click(
            self.look,
            form,
            [self.read, self.checked, self.said, self.table, self.start, self.identity],
            show_progress="minimal",
        )
        started = self.start.click(
            self.queue,
            [self.read, self.checked, *form],
            [self.made, self.failed],
            show_progress="minimal",
        )
        started.then(None, self.made, None, js=GO)
        on_load(self.begin, None, [self.identity, self.earlier, *table])
        gr.Timer(SECONDS).tick(self.show, self.identity, table, **QUIET)
        rest = self.go_on.click(
            self.queue_rest, self.identity, self.failed, show_progress="minimal"
        )
        rest.then(self.show, self.identity, table, **QUIET)

    def begin(self, request: gr.Request) -> list[Any]:
        """Show the batch that the address names, and those that were started before."""
        name = str(request.query_params.get("id", ""))
        return [name, _earlier(self.service), *self.show(name)]

    def look(self, rows: str, suffix: str, file: str | None) -> list[Any]:
        """Check rows without queueing them."""
        try:
            found = rows_of(self.service, rows, suffix, file)
        except DreamlabError as error:
            return [[], "", markup.problem(error), "", gr.Button(interactive=False), ""]
        start = gr.Button(interactive=any(not row.reason for row in found))
        return [
            [asdict(row) for row in found],
            _mark(rows, suffix, file),
            summary(found),
            table_of(self.service, found),
            start,
            "",
        ]

    def queue(self, found: list[Plain], checked: str, *form: str | None) -> tuple[str, str]:
        """Queue the rows that were checked; return the name of their batch, or what is wrong."""
        rows, file = [build_settings(Batched, row) for row in found], form[2]
        try:
            if _mark(*form) != checked:
                raise InputError("the rows were changed since they were checked.", "check them.")
            name = batch_record.begin(self.service, Path(file).stem if file else "rows", rows)
        except DreamlabError as error:
            return "", markup.problem(error)
        with suppress(*batch_record.PASSING):  # the page of the batch offers the rows that are left
            batch_record.queue_rows(self.service, name)
        return name, ""

    def queue_rest(self, name: str) -> str:
        """Queue the rows of a batch that are not queued yet; return what is wrong."""
        try:
            batch_record.queue_rows(self.service, name)
        except DreamlabError as error:
            return markup.problem(error)
        return ""

    def show(self, name: str) -> list[Any]:
        """Show the rows of a batch that was started, as they are now."""
        if not name:
            return [gr.skip()] * 3
        try:
            rows = batch_record.load(self.service, name)
        except DreamlabError as error:
            return [markup.problem(error), "", gr.Button(visible=False)]
        waits = any(not row.name and not row.reason for row in rows)
        return [summary(rows), table_of(self.service, rows), gr.Button(visible=waits)]


def _mark(*form: str | None) -> str:
    """Return what tells two forms apart."""
    return sha256(repr(form).encode()).hexdigest()[:16]


def rows_of(service: Service, text: str, suffix: str, file: str | None) -> list[Batched]:
    """Read and check the rows of an uploaded file, or else those that were written on the page.

    Raises:
        InputError: there are none, or they are not of the kind that was chosen.
    """
    if file is not None:
        return batch_record.read_batch(service, Path(file))
    if not text.strip():
        raise InputError("there are no rows.", "write some, one a line, or choose a file.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        path.write_text(text, encoding="utf-8")
        return batch_record.read_batch(service, path)


def summary(rows: Sequence[Batched]) -> str:
    """Say in a line how many rows are good and what they take."""
    bad = sum(bool(row.reason) for row in rows)
    known = [row.seconds for row in rows if row.seconds is not None and not row.reason]
    number = len(rows) - bad
    parts = [f"{number} row{'s' if number != 1 else ''} can run"]
    if known:
        least = "at least " if len(known) < number else ""
        parts.append(f"{least}about {markup.duration(sum(known))} one after the other")
    if bad:
        parts.append(f"{bad} cannot; the reason stands beside {'it' if bad == 1 else 'them'}")
    return markup.notice("note" if bad else "good", ", ".join(parts) + ".")


def table_of(service: Service, rows: Sequence[Batched]) -> str:
    """Show every row with its run, or why there is none."""
    cells = [
        [
            str(number),
            f"<b>{escape(row.prompt)}</b>{_changes(row)}",
            escape(f"{row.recipe} {row.quality}"),
            str(row.seed),
            markup.duration(row.seconds),
            _state(service, row),
        ]
        for number, row in enumerate(rows, 1)
    ]
    return markup.table(["", "Prompt", "Recipe", "Seed", "Takes", "State"], cells)


def _changes(row: Batched) -> str:
    settings = [f"{key}={as_text(value)}" for key, value in row.settings.items()]
    return markup.chips(
        [*([f"not: {row.negative_prompt}"] if row.negative_prompt else []), *settings]
    )


def _state(service: Service, row: Batched) -> str:
    if row.reason:
        why = f"{escape(row.reason)} {escape(row.fix)}"
        return f'<span class="badge badge-failed">Cannot run</span><p class="reason">{why}</p>'
    if not row.name:
        return '<span class="badge">Ready</span>'
    try:
        job = service.describe(service.open(row.name))
    except DreamlabError:
        return '<span class="badge">Deleted</span>'
    reason = f'<p class="reason">{escape(job.reason)}</p>' if job.state == "failed" else ""
    return f'<a href="{markup.run_link(row.name)}">{markup.badge(job.state)}</a>{reason}'


def _earlier(service: Service) -> str:
    """List the batches that were started before."""
    names = batch_record.known_batches(service)[:6]
    if not names:
        return ""
    rows = "".join(
        f'<li><a href="batch?id={escape(name)}">{escape(name)}</a></li>' for name in names
    )
    return f'<div class="active-runs"><h3>Earlier batches</h3><ul>{rows}</ul></div>'
