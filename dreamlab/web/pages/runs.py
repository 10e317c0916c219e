"""Runs: all runs of the folder as a gallery, with search, filters, favourites and deletion."""

from hashlib import sha256
from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr

from dreamlab.core.errors import DreamlabError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.queue.index import Entry
from dreamlab.jobs.state import STATES
from dreamlab.web.pages import markup
from dreamlab.web.pages.parts import EACH, LAST, QUIET, held, html, on_load
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
    _Page(service).wire()


class _Page:
    """The fields of the page, and what happens when they are used."""

    def __init__(self, service: Service) -> None:
        """Lay everything out."""
        self.service = service
        self.page, self.known, self.chosen = held(0), held(""), held("")
        html(markup.title("Runs", "Everything that was made, or is being made, in this folder."))
        with gr.Row(elem_classes="filters"):
            self._lay_out_filters()
        with gr.Row(visible=False, elem_classes="confirm") as self.confirm:
            self.asked = html("")
            self.really = gr.Button("Delete for good", variant="stop", size="sm", min_width=120)
            self.keep = gr.Button("Keep it", size="sm", min_width=90)
        self.said = html("")
        self.gallery = html(
            '<div class="loading">Looking ...</div>', js_on_load=SCRIPT, elem_id="gallery"
        )
        with gr.Row(elem_classes="pager"):
            self.back = gr.Button("‹ Newer", size="sm", min_width=90, visible=False)
            self.where = html("")
            self.on = gr.Button("Older ›", size="sm", min_width=90, visible=False)

    def _lay_out_filters(self) -> None:
        states = [(markup.STATE_WORDS[name], name) for name in STATES]
        self.words = gr.Textbox(
            label="Search",
            placeholder="words of the prompt",
            scale=4,
            min_width=260,
            elem_id="search",
        )
        self.state = gr.Dropdown(
            [("All states", ""), *states], value="", label="State", scale=2, min_width=130
        )
        self.order = gr.Dropdown(ORDERS, value="newest", label="Order", scale=2, min_width=130)
        self.only = gr.Checkbox(
            label="★ Favourites only", scale=1, min_width=200, elem_id="favourites"
        )

    def wire(self) -> None:
        """Say what follows on what; whatever is done, the gallery is looked at again."""
        on_load(self.show, self._filters, self._shown)
        gr.Timer(SECONDS).tick(self.show, self._filters, self._shown, **QUIET)
        first = [self.words.input, self.state.change, self.order.change, self.only.change]
        for event in first:
            self._then_show(event(lambda: 0, None, self.page, **LAST))
        for button, step in ((self.back, -1), (self.on, 1)):
            self._then_show(button.click(_turn(step), self.page, self.page, **QUIET))
        outputs = [self.confirm, self.asked, self.chosen, self.said]
        self._then_show(self.gallery.select(self.take_card, None, outputs, **EACH))
        outputs = [self.confirm, self.said]
        self._then_show(self.really.click(self.delete, self.chosen, outputs, **QUIET))
        self.keep.click(lambda: gr.Row(visible=False), None, self.confirm, **QUIET)

    @property
    def _filters(self) -> list[gr.components.Component]:
        return [self.words, self.state, self.order, self.only, self.page, self.known]

    @property
    def _shown(self) -> list[gr.components.Component]:
        return [self.gallery, self.known, self.where, self.back, self.on, self.page]

    def _then_show(self, event: Any) -> None:
        event.then(self.show, self._filters, self._shown, **LAST)

    def show(
        self, text: str, of_state: str, by: str, favourites: bool, number: int, before: str
    ) -> list[Any]:
        """Show a page of runs, unless it is what is shown already; the last one if it is gone."""
        cards, total = gallery_of(self.service, text, of_state, by, favourites, number)
        pages = max(1, -(-total // PAGE))
        if number >= pages:
            *shown, _ = self.show(text, of_state, by, favourites, pages - 1, before)
            return [*shown, pages - 1]
        mark = sha256(f"{number} {total} {cards}".encode()).hexdigest()[:16]
        if mark == before:
            return [gr.skip()] * len(self._shown)
        place = f'<p class="place">Page {number + 1} of {pages}, {total} runs</p>' if total else ""
        buttons = gr.Button(visible=number > 0), gr.Button(visible=number + 1 < pages)
        return [cards, mark, place, *buttons, gr.skip()]

    def take_card(self, event: gr.EventData) -> list[Any]:
        """Do what a button on a card says; deleting is asked about first."""
        action, name = event._data["action"], event._data["name"]
        try:
            folder = self.service.open(name)
            if action == "delete":
                prompt = escape(self.service.describe(folder).prompt)
                question = f"<b>Delete “{prompt}”?</b> Its models and pictures are removed."
                return [gr.Row(visible=True), question, name, ""]
            self.service.act(folder, action)
        except DreamlabError as error:
            return [gr.skip(), gr.skip(), "", markup.problem(error)]
        return [gr.Row(visible=False), "", "", ""]

    def delete(self, name: str) -> list[Any]:
        """Delete the run that was asked about."""
        try:
            self.service.delete(self.service.open(name))
        except DreamlabError as error:
            return [gr.Row(visible=False), markup.problem(error)]
        return [gr.Row(visible=False), ""]


def _turn(step: int) -> Any:
    """Return what turns to another page."""
    return lambda number: max(0, number + step)


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
        f"<small>{markup.ago(entry.created)}</small>{_card_buttons(service, entry)}</div></article>"
    )


def _card_buttons(service: Service, entry: Entry) -> str:
    name, prompt = escape(entry.root.name), escape(entry.prompt)
    link = f"compare?a={quote(entry.root.name)}"
    action, star = ("unfavourite", "★") if entry.is_favourite else ("favourite", "☆")
    pressed = str(entry.is_favourite).lower()
    archive = f"{service.url(RunFolder(entry.root))}/archive"
    return (
        f'<span class="card-buttons"><button type="button" data-do="{action}" data-name="{name}" '
        f'aria-label="favourite: {prompt}" aria-pressed="{pressed}">{star}</button>'
        f'<a href="{link}" title="Compare" aria-label="compare {prompt}">⇄</a>'
        f'<a href="{archive}" download title="All files as a zip" '
        f'aria-label="zip of {prompt}">⤓</a>'
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
