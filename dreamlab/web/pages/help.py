"""Help: how the page works, keys, where to read on, and what the doctor finds on this machine."""

from collections.abc import Sequence
from html import escape

import gradio as gr

from dreamlab.core.version import VERSION
from dreamlab.web.pages import markup
from dreamlab.web.pages.doctor import Doctor
from dreamlab.web.pages.parts import QUIET, html, on_load
from dreamlab.web.service import Service

DOCS = "https://github.com/dreamlab-3d/dreamlab/blob/main/docs"
KEYS = (
    ("Ctrl Enter", "Generate"),
    ("/", "Go to the search field, or to the prompt"),
    ("g", "Generate page"),
    ("r", "Runs"),
    ("c", "Compare"),
    ("e", "Export"),
    ("b", "Batch"),
    ("h", "Help"),
)
ARTICLES = (
    ("recipes.md", "Recipes", "what each one does, needs and gives"),
    ("jobs.md", "Jobs", "states, the queue, what survives what"),
    ("batches.md", "Batches", "files of many rows"),
    ("guidance.md", "Guidance", "the rules of score distillation"),
    ("toybox.md", "The embedded model", "what it knows, and its words"),
    ("troubleshooting.md", "Troubleshooting", "when something goes wrong"),
    ("web.md", "This page", "addresses, sharing, running it elsewhere"),
)
ANSWERS = (
    (
        "May I close the page?",
        "Yes. Runs belong to a process of their own. Come back by the address of the run, or by "
        "the list of runs; restarting the server changes nothing either.",
    ),
    (
        "Stop, pause or cancel?",
        "Stop ends the training now and exports what there is. Pause keeps the place and exports "
        "nothing yet. Cancel gives the run up. Each of them can be resumed.",
    ),
    (
        "Where are my files?",
        "Under Downloads on the page of the run, and in its folder on disk: exports/model.glb.",
    ),
    (
        "The model looks grey in Blender.",
        "Solid shading never shows textures. Switch the viewport to Material Preview.",
    ),
    (
        "Why does it not know my word?",
        "The embedded model is small and knows toys, colours and simple shapes. Other recipes use "
        "Stable Diffusion, which knows the whole language but needs a GPU and a download.",
    ),
)
MARKS = {"ok": "Fine", "note": "Note", "problem": "Problem"}
SECONDS = 1.0


def build(service: Service) -> None:
    """Lay out the page inside the Blocks that are open."""
    doctor = Doctor(service.runs)
    html(markup.title("Help", f"dreamlab {VERSION}. Runs are kept in {service.runs}."))
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=3, min_width=320):
            html(_answers())
        with gr.Column(scale=2, min_width=300):
            html(_keys() + _articles())
    html(
        '<div class="doctor-head"><h2>This machine</h2><p>Checks Python, torch, kernels, packages '
        "and folders, as <code>dreamlab doctor</code> does. Takes some seconds.</p></div>"
    )
    ask = gr.Button(
        "Examine this machine", size="sm", elem_id="doctor-button", elem_classes="compact"
    )
    found = html("", elem_id="doctor")

    def show() -> str:
        if doctor.is_busy:
            return '<div class="loading">Examining ...</div>'
        return report(doctor.findings)

    on_load(show, None, found)
    ask.click(doctor.start, None, None, **QUIET).then(show, None, found, **QUIET)
    gr.Timer(SECONDS).tick(show, None, found, **QUIET)


def report(findings: Sequence[dict[str, str]] | None) -> str:
    """Show findings, problems first; nothing if nobody has asked yet."""
    if findings is None:
        return ""
    order = ("problem", "note", "ok")
    rows = [
        [
            f'<span class="badge badge-{escape(item["status"])}">{MARKS[item["status"]]}</span>',
            escape(item["area"]),
            f"{escape(item['detail'])}{_fix(item)}",
        ]
        for item in sorted(findings, key=lambda item: order.index(item["status"]))
    ]
    return markup.table(["", "What", "Found"], rows)


def _fix(item: dict[str, str]) -> str:
    return f'<p class="reason">{escape(item["fix"])}</p>' if item.get("fix") else ""


def _answers() -> str:
    parts = "".join(
        f"<details><summary>{escape(question)}</summary><p>{escape(answer)}</p></details>"
        for question, answer in ANSWERS
    )
    return f'<section class="answers"><h2>Questions</h2>{parts}</section>'


def _keys() -> str:
    rows = "".join(
        "<div><dt>"
        + " ".join(f"<kbd>{escape(key)}</kbd>" for key in keys.split())
        + f"</dt><dd>{escape(about)}</dd></div>"
        for keys, about in KEYS
    )
    return f'<section><h2>Keys</h2><dl class="facts keys">{rows}</dl></section>'


def _articles() -> str:
    rows = "".join(
        f'<li><a href="{DOCS}/{file}"><b>{escape(name)}</b><span>{escape(about)}</span></a></li>'
        for file, name, about in ARTICLES
    )
    return f'<section><h2>Read on</h2><ul class="downloads">{rows}</ul></section>'
