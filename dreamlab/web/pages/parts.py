"""Gradio components as all pages use them."""

from typing import Any

import gradio as gr
from gradio.context import Context

QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False}
"""Of events that only look: no spinner, and no place in the queue, so they never wait."""


def html(value: str = "", **options: Any) -> gr.HTML:
    """Make a piece of HTML that only style.css gives a look."""
    return gr.HTML(value, apply_default_css=False, **options)


def on_load(act: Any, inputs: Any, outputs: Any) -> Any:
    """Do something whenever the page that is being built is opened."""
    page = Context.root_block
    assert page is not None
    return page.load(act, inputs, outputs, **QUIET)


def navigation() -> None:
    """Put the bar of pages at the top."""
    gr.Navbar(main_page_name="Generate")
