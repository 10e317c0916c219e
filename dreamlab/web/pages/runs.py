"""Runs: all runs of the folder as a gallery, with search, filters, favourites and deletion."""

from html import escape
from typing import Any

import gradio as gr

from dreamlab.core.errors import DreamlabError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.queue.index import Entry
from dreamlab.jobs.state import STATES
from dreamlab.web.pages import markup
from dreamlab.web.pages.parts import QUIET, html, on_load
from dreamlab.web.pages.pictures import cover
from dreamlab.web.service import Service

PAGE = 24
"""Runs of one page."""
SECONDS = 3.0
"""Between two looks at the folder."""
ORDERS = [("Newest first", "newest"), ("Oldest first", "oldest"), ("By prompt", "prompt")]
SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]');
  if (!button) return;
  event.preventDefault();
  trigger('select', {action: button.dataset.do, name: button.dataset.name});
});
"""
NOTHING = markup.empty(
    "No runs yet",
    "What you make appears here, with its pictures and files.",
    "./",
    "Make the first",
)
NOT_FOUND = markup.empty("Nothing found", "No run has these words and this state.")


def build(service: Service) -> None:
    """Lay out the page inside the Blocks that are open."""
    html(markup.title("Runs", "Everything that was made, or is being made, in this folder."))
    with gr.Row(elem_classes="filters"):
        words = gr.Textbox(
            label="Search", placeholder="words of the prompt", scale=4, elem_id="search"
        )
        state = gr.Dropdown(
            [("All states", ""), *[(markup.STATE_WORDS[name], name) for name in STATES]],
            value="",
            label="State",
            scale=2,
            min_width=130,
        )
        order = gr.Dropdown(ORDERS, value="newest", label="Order", scale=2, min_width=130)
        only = gr.Checkbox(label="★ Favourites only", scale=1, min_width=200)
    with gr.Row(visible=False, elem_classes="confirm") as confirm:
        asked = html("")
        really = gr.Button("Delete for good", variant="stop", size="sm", min_width=120)
        keep = gr.Button("Keep it", size="sm", min_width=90)
    said = html("")
    gallery = html('<div class="loading">Looking ...</div>', js_on_load=SCRIPT, elem_id="gallery")
    with gr.Row(elem_classes="pager"):
        back = gr.Button("‹ Newer", size="sm", min_width=90, visible=False)
        where = html("")
        on = gr.Button("Older ›", size="sm", min_width=90, visible=False)
    page, known, chosen = gr.State(0), gr.State(""), gr.State("")
    filters, outputs = [words, state, order, only, page], [gallery, known, where, back, on]

    def show(
        text: str, of_state: str, by: str, favourites: bool, number: int, before: str
    ) -> list[Any]:
        html, total = gallery_of(service, text, of_state, by, favourites, number)
        if html == before:
            return [gr.skip()] * len(outputs)
        pages = max(1, -(-total // PAGE))
        place = f'<p class="place">Page {number + 1} of {pages}, {total} runs</p>' if total else ""
        buttons = gr.Button(visible=number > 0), gr.Button(visible=number + 1 < pages)
        return [html, html, place, *buttons]

    on_load(show, [*filters, known], outputs)
    gr.Timer(SECONDS).tick(show, [*filters, known], outputs, **QUIET)
    for field in (words, state, order, only):
        event = field.input if field is words else field.change
        event(lambda: 0, None, page, trigger_mode="always_last", **QUIET).then(
            show, [*filters, known], outputs, **QUIET
        )
    for button, step in ((back, -1), (on, 1)):
        button.click(lambda number, step=step: max(0, number + step), page, page, **QUIET).then(
            show, [*filters, known], outputs, **QUIET
        )

    def on_card(event: gr.EventData) -> list[Any]:
        action, name = event._data["action"], event._data["name"]
        try:
            folder = service.open(name)
            if action == "delete":
                prompt = escape(service.describe(folder).prompt)
                question = f"<b>Delete “{prompt}”?</b> Its models and pictures are removed."
                return [gr.Row(visible=True), question, name, ""]
            service.act(folder, action)
        except DreamlabError as error:
            return [gr.skip(), gr.skip(), "", markup.problem(error)]
        return [gr.Row(visible=False), "", "", ""]

    gallery.select(on_card, None, [confirm, asked, chosen, said], **QUIET).then(
        show, [*filters, known], outputs, **QUIET
    )

    def delete(name: str) -> list[Any]:
        try:
            service.delete(service.open(name))
        except DreamlabError as error:
            return [gr.Row(visible=False), markup.problem(error)]
        return [gr.Row(visible=False), ""]

    really.click(delete, chosen, [confirm, said], **QUIET).then(
        show, [*filters, known], outputs, **QUIET
    )
    keep.click(lambda: gr.Row(visible=False), None, confirm, **QUIET)


def gallery_of(
    service: Service, words: str, state: str, order: str, favourites: bool, page: int
) -> tuple[str, int]:
    """Show one page of runs as cards; also return how many runs there are in all."""
    found = service.search(
        words,
        states=(state,) if state else (),
        favourites=favourites,
        order=order,
        offset=page * PAGE,
        limit=PAGE,
    )
    if not found.total:
        return (NOT_FOUND if words or state or favourites else NOTHING), 0
    cards = "".join(card(service, entry) for entry in found.entries)
    return f'<div class="gallery">{cards}</div>', found.total


def card(service: Service, entry: Entry) -> str:
    """Show one run: picture, prompt, state and progress, buttons."""
    prompt = escape(entry.prompt)
    picture = cover(RunFolder(entry.root))
    image = f'<img src="{picture}" alt="">' if picture else '<span class="no-picture"></span>'
    return (
        f'<article class="card"><a href="{markup.run_link(entry.root.name)}">{image}'
        f"<h3>{prompt}</h3></a>{_progress(service, entry)}"
        f'<div class="card-foot">{markup.badge(entry.state)}'
        f"<small>{markup.ago(entry.created)}</small>{_card_buttons(entry)}</div></article>"
    )


def _card_buttons(entry: Entry) -> str:
    name, prompt = escape(entry.root.name), escape(entry.prompt)
    action, star = ("unfavourite", "★") if entry.is_favourite else ("favourite", "☆")
    pressed = str(entry.is_favourite).lower()
    return (
        f'<span class="card-buttons"><button type="button" data-do="{action}" data-name="{name}" '
        f'aria-label="favourite: {prompt}" aria-pressed="{pressed}">{star}</button>'
        f'<a href="compare?a={name}" title="Compare" aria-label="compare {prompt}">⇄</a>'
        f'<button type="button" data-do="delete" data-name="{name}" '
        f'aria-label="delete {prompt}">✕</button></span>'
    )


def _progress(service: Service, entry: Entry) -> str:
    if entry.state not in ("running", "paused"):
        return ""
    try:
        part = service.describe(RunFolder(entry.root)).progress
    except DreamlabError:
        return ""
    return f'<div class="bar" aria-hidden="true"><i style="width:{100 * part:.0f}%"></i></div>'
