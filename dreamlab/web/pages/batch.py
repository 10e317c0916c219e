"""Batch: a file of rows is checked, shown with what it takes, and queued; bad rows say why.

The address names a batch that was started (batch?id=...), and its table is read from the folders.
"""

import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from dreamlab.core.errors import DreamlabError, InputError
from dreamlab.web.pages import batch_record, markup
from dreamlab.web.pages.batch_record import Batched
from dreamlab.web.pages.changes import as_text
from dreamlab.web.pages.parts import QUIET, html, on_load
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
GO = "(id) => { if (id) window.location.assign('batch?id=' + encodeURIComponent(id)); }"


def build(service: Service) -> None:
    """Lay out the page inside the Blocks that are open."""
    html(markup.title("Batch", "Many prompts at once: check them, then queue them for the night."))
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=3, min_width=320):
            text = gr.Textbox(
                label="Rows", lines=9, max_lines=20, placeholder=EXAMPLE, elem_id="rows"
            )
            kind = gr.Radio(KINDS, value=".txt", label="Written as", elem_id="kind")
        with gr.Column(scale=2, min_width=300, elem_classes="side"):
            upload = gr.File(
                label="Or a file",
                file_types=[".txt", ".yaml", ".yml", ".csv", ".jsonl"],
                height=140,
            )
            check = gr.Button("Check the rows", elem_id="check-rows")
            start = gr.Button(
                "Queue all good rows", variant="primary", interactive=False, elem_id="queue-rows"
            )
            html(
                f'<p class="hint">How rows are written: <a href="{FORMATS_LINK}">batches.md</a>. '
                "Nothing runs before you queue it.</p>"
            )
            earlier = html("")
    said = html("")
    table = html("", elem_id="batch-table")
    go_on = gr.Button("Queue the rows that wait", visible=False, elem_id="go-on")
    read, identity = gr.State([]), gr.State("")
    made = gr.Textbox(visible="hidden")

    def look(rows: str, suffix: str, file: str | None) -> list[Any]:
        try:
            found = rows_of(service, rows, suffix, file)
        except DreamlabError as error:
            return [[], markup.problem(error), "", gr.Button(interactive=False), ""]
        is_some = any(not row.reason for row in found)
        return [found, summary(found), table_of(service, found), gr.Button(interactive=is_some), ""]

    check.click(
        look,
        [text, kind, upload],
        [read, said, table, start, identity],
        show_progress="minimal",
    )

    def queue(found: list[Batched], file: str | None) -> str:
        name = batch_record.begin(service, Path(file).stem if file else "rows", found)
        batch_record.queue_rows(service, name)
        return name

    start.click(queue, [read, upload], made, show_progress="minimal").then(None, made, None, js=GO)

    def show(name: str) -> list[Any]:
        if not name:
            return [gr.skip()] * 3
        try:
            rows = batch_record.load(service, name)
        except DreamlabError as error:
            return [markup.problem(error), "", gr.Button(visible=False)]
        waits = any(not row.name and not row.reason for row in rows)
        return [summary(rows), table_of(service, rows), gr.Button(visible=waits)]

    def begin(request: gr.Request) -> list[Any]:
        name = str(request.query_params.get("id", ""))
        return [name, _earlier(service), *show(name)]

    on_load(begin, None, [identity, earlier, said, table, go_on])
    gr.Timer(SECONDS).tick(show, identity, [said, table, go_on], **QUIET)

    def rest(name: str) -> None:
        batch_record.queue_rows(service, name)

    go_on.click(rest, identity, None, show_progress="minimal").then(
        show, identity, [said, table, go_on], **QUIET
    )


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
