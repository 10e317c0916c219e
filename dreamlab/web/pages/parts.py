"""Gradio components as all pages use them.

What a page has to remember lies in the page (`held`), never in `gr.State`. That lies in the memory
of the server, which forgets it when it is started again, and an hour after a laptop was closed: the
page would then show one thing and mean another.
"""

from typing import Any, overload

import gradio as gr
from gradio.context import Context

QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False}
"""Of events that only look: no spinner, and no place in the queue, so they never wait."""
LAST: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
"""Of changes that may come faster than answers: when there are several, the last one counts."""
EACH: dict[str, Any] = {**QUIET, "trigger_mode": "multiple"}
"""Of events that carry data (`gr.EventData`), which one that is put off would lose."""


def html(value: str = "", **options: Any) -> gr.HTML:
    """Make a piece of HTML that only style.css gives a look."""
    return gr.HTML(value, apply_default_css=False, **options)


@overload
def held(value: str) -> gr.Textbox: ...
@overload
def held(value: int) -> gr.Number: ...
@overload
def held(value: dict[str, Any] | list[Any]) -> gr.JSON: ...
def held(value: Any) -> gr.JSON | gr.Textbox | gr.Number:
    """Keep a plain value in the page, unseen; it is sent along with the events that need it."""
    if isinstance(value, str):
        return gr.Textbox(value, visible="hidden")
    if isinstance(value, int):
        return gr.Number(value, precision=0, visible="hidden")
    return gr.JSON(value, visible="hidden")


def on_load(act: Any, inputs: Any, outputs: Any, js: str | None = None) -> Any:
    """Do something whenever the page that is being built is opened; first `js`, in the browser."""
    page = Context.root_block
    assert page is not None
    return page.load(act, inputs, outputs, js=js, **QUIET)


def navigation() -> None:
    """Put the bar of pages at the top."""
    gr.Navbar(main_page_name="Generate")
