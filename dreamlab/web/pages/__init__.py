"""The web page, in Gradio, over `Service`; a file a page.

A page only shows what is in the run folders: timers read them, buttons ask the service, and nothing
that lasts runs inside of an event, since Gradio drops those when a page disconnects.
"""

import warnings
from types import ModuleType

import gradio as gr
from fastapi import FastAPI

from dreamlab.web.pages import batch, compare, export, generate, help, run, runs
from dreamlab.web.pages.parts import navigation
from dreamlab.web.pages.theme import CSS_PATH, HEAD, THEME
from dreamlab.web.service import Service

__all__ = ["build_pages", "mount"]

PAGES: tuple[tuple[str, str, ModuleType, bool], ...] = (
    ("Runs", "runs", runs, True),
    ("Run", "run", run, False),
    ("Compare", "compare", compare, True),
    ("Export", "export", export, True),
    ("Batch", "batch", batch, True),
    ("Help", "help", help, True),
)
"""Name, address, file, and whether it stands in the bar at the top."""
CACHE_SECONDS = 3600
"""Copies of models that Gradio shows are removed when they are so old."""
QUEUE_SECONDS = 0.02
"""Between two looks of Gradio at its queue of events. Left alone it looks a thousand times a
second, which takes several percent of a processor from a training though nobody has a page open."""


def build_pages(service: Service) -> gr.Blocks:
    """Build all pages; the first one, Generate, is at the root."""
    cache = (CACHE_SECONDS, CACHE_SECONDS)
    with gr.Blocks(title="dreamlab", analytics_enabled=False, delete_cache=cache) as pages:
        navigation()
        generate.build(service)
    for name, address, page, is_listed in PAGES:
        with pages.route(name, address, show_in_navbar=is_listed):
            navigation()
            page.build(service)
    pages._queue.sleep_when_free = pages._queue.progress_update_sleep_when_free = QUEUE_SECONDS
    return pages


def mount(app: FastAPI, service: Service, root_path: str = "") -> None:
    """Put all pages at the root of an application, in the look of `theme`.

    Files that the pages show are fetched from the API of the same application.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SSR mode is not supported")  # it was not asked for
        gr.mount_gradio_app(
            app,
            build_pages(service),
            path="/",
            root_path=root_path or None,
            theme=THEME,
            css_paths=[CSS_PATH],
            head=HEAD,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
        )
