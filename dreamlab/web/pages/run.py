"""Run: one run, live. The address names it (run?name=...), so it outlives tab and server.

Nothing happens here but looking: a timer reads the run folder through the service once a second,
and what has not changed is not sent again. Buttons ask the service, which asks whoever has the job.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from gradio.processing_utils import save_file_to_cache

from dreamlab.core.errors import DreamlabError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.queue.exports import FAILED, FROM
from dreamlab.web.pages import markup
from dreamlab.web.pages.chart import loss_chart, memory_chart
from dreamlab.web.pages.follow import Follower, Story, tail
from dreamlab.web.pages.parts import QUIET, held, html, on_load
from dreamlab.web.pages.pictures import MODES, changed_at, newest_sheet, views_of
from dreamlab.web.pages.result import downloads, statistics, turntable
from dreamlab.web.pages.splats import keep_centred
from dreamlab.web.progress import read_head
from dreamlab.web.service import Action, Service
from dreamlab.web.views import JobView

SECONDS = 1.0
"""Between two looks."""
ENDED = ("done", "stopped", "failed", "cancelled")
"""States in which what has been made is shown; a failed export leaves pictures behind, too."""
BEFORE, AFTER = ("load prior",), ("export", "turntable")
"""Phases around the stages."""
SHORT = 0.06
"""Width of such a phase, as a share of the bar."""
ACTIONS: dict[Action, tuple[str, tuple[str, ...]]] = {
    "stop": ("Stop and keep", ("running", "queued")),
    "pause": ("Pause", ("running", "queued")),
    "resume": ("Resume", ("paused", "failed", "stopped", "cancelled")),
    "cancel": ("Cancel", ("running", "queued", "paused")),
    "duplicate": ("Duplicate", ()),
    "favourite": ("☆ Favourite", ()),
}
"""Action to the word on its button and the states in which it means something; none: all."""
GO = "(name) => { if (name) window.location.assign('run?name=' + encodeURIComponent(name)); }"
GO_TO_RUNS = "(name) => { if (name) window.location.assign('runs'); }"
MESH, GAUSSIANS = "mesh", "gaussians"
KINDS = [("Mesh", MESH), ("Gaussians", GAUSSIANS)]
"""What the viewer can show of a run that ends with Gaussians."""
NAMELESS = "?"
"""Stands for the run where the address names none; no run is called so."""
NO_RUN = markup.empty(
    "There is no such run", "It may have been deleted, or its folder was moved.", "runs", "All runs"
)


def build(service: Service) -> None:
    """Lay out the page inside the Blocks that are open."""
    _Page(service).wire()


class _Page:
    """The parts of the page, and what happens when they are used."""

    def __init__(self, service: Service) -> None:
        """Lay everything out."""
        self.service, self.follower = service, Follower()
        self.name, self.known = held(""), held({})
        self.glb = gr.Textbox(visible="hidden")
        head = html('<div class="loading">Opening the run ...</div>', elem_id="run-head")
        self._lay_out_buttons()
        self.said = html("")
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=3, min_width=320):
                self.kind = gr.Radio(
                    KINDS, value=MESH, visible=False, label="Shown", elem_id="shown"
                )
                self.model = gr.Model3D(
                    visible="hidden",  # one that is not there at all would not load its viewer
                    label="Model",
                    interactive=False,
                    clear_color=(0.0, 0.0, 0.0, 0.0),
                    height=420,
                    elem_id="model",
                )
                result, pictures = html("", elem_id="result"), html("", elem_id="pictures")
            with gr.Column(scale=2, min_width=300):
                downloaded, chart = html("", elem_id="downloads"), html("", elem_id="chart")
                log = html("", elem_id="log")
        self.gone, self.made = gr.Textbox(visible="hidden"), gr.Textbox(visible="hidden")
        self.panels = {
            "head": head,
            "pictures": pictures,
            "chart": chart,
            "log": log,
            "result": result,
            "downloads": downloaded,
        }

    def _lay_out_buttons(self) -> None:
        with gr.Row(elem_classes="actions"):
            self.buttons: dict[Action, gr.Button] = {
                action: gr.Button(
                    word, visible=False, size="sm", min_width=90, elem_id=f"act-{action}"
                )
                for action, (word, _) in ACTIONS.items()
            }
            self.remove = gr.Button(
                "Delete", visible=False, size="sm", min_width=90, variant="stop"
            )
        with gr.Row(visible=False, elem_classes="confirm") as self.confirm:
            html("<b>Delete this run?</b> Its models and pictures are removed from the disk.")
            self.really = gr.Button("Delete for good", variant="stop", size="sm", min_width=120)
            self.keep = gr.Button("Keep it", size="sm", min_width=90)

    def wire(self) -> None:
        """Say what follows on what."""
        outputs = [self.known, self.glb, *self.panels.values(), *self.buttons.values(), self.remove]
        looked = [self.name, self.known]
        viewed = [self.glb, self.name, self.kind]
        for event in (self.glb.change, self.kind.input):
            event(self.view, viewed, [self.model, self.kind], **QUIET)
        on_load(self.start, None, [self.name, *outputs])
        gr.Timer(SECONDS).tick(self.tick, looked, outputs, **QUIET)
        for action, button in self.buttons.items():
            asked = button.click(self.act(action), looked, [self.said, self.made], **QUIET)
            asked.then(self.tick, looked, outputs, **QUIET)
        self.made.change(None, self.made, None, js=GO)
        self.remove.click(lambda: gr.Row(visible=True), None, self.confirm, **QUIET)
        self.keep.click(lambda: gr.Row(visible=False), None, self.confirm, **QUIET)
        self.really.click(self.delete, self.name, [self.said, self.gone], **QUIET)
        self.gone.change(None, self.gone, None, js=GO_TO_RUNS)

    def start(self, request: gr.Request) -> list[Any]:
        """Show the run that the address names."""
        run = str(request.query_params.get("name", "")) or NAMELESS
        return [run, *self.tick(run, {})]

    def tick(self, run: str, before: Mapping[str, Any]) -> list[Any]:
        """Show what has changed since `before`, which the page got together with what it shows."""
        if not run:  # the address was not read yet
            return [gr.skip()] * (len(self.panels) + len(ACTIONS) + 3)
        now = look(self.service, self.follower, run)
        marks = marks_of(now)
        shown = [
            now[panel] if marks[panel] != before.get(panel) else gr.skip() for panel in self.panels
        ]
        buttons: list[Any] = [gr.skip()] * (len(ACTIONS) + 1)
        if any(marks[key] != before.get(key) for key in ("state", "favourite")):
            buttons = _buttons(now["state"], now["favourite"])
        return [marks, now["model"], *shown, *buttons]

    def view(self, mark: str, run: str, kind: str) -> list[Any]:
        """Show the model, once there is one, as what it is or as the Gaussians that it was."""
        paths = models_of(self.service.open(run)) if mark else {}
        cached = None
        if kind == GAUSSIANS and kind in paths:
            cached = keep_centred(paths[kind], self.model.GRADIO_CACHE)
        elif MESH in paths:
            cached = save_file_to_cache(paths[MESH], self.model.GRADIO_CACHE)
        model = gr.Model3D(value=cached, visible=True if cached else "hidden")
        return [model, gr.Radio(visible=GAUSSIANS in paths)]

    def act(self, action: Action) -> Any:
        """Return what a button does: it says what is wrong, and names the run that was made."""

        def ask(run: str, before: dict[str, Any]) -> tuple[str, str]:
            wish: Action = action
            if action == "favourite" and before.get("favourite"):
                wish = "unfavourite"
            try:
                folder = self.service.act(self.service.open(run), wish)
            except DreamlabError as error:
                return markup.problem(error), ""
            return "", folder.root.name if action == "duplicate" else ""

        return ask

    def delete(self, run: str) -> tuple[str, str]:
        """Delete the run; return what is wrong, or its name."""
        try:
            self.service.delete(self.service.open(run))
        except DreamlabError as error:
            return markup.problem(error), ""
        return "", run


def look(service: Service, follower: Follower, name: str) -> dict[str, Any]:
    """Read everything that the page shows: HTML by panel, when the model was made, the state."""
    try:
        folder = service.open(name)
        job = service.describe(folder)
    except DreamlabError:
        nothing = dict.fromkeys(("pictures", "chart", "log", "result", "downloads"), "")
        return nothing | {"head": NO_RUN, "model": "", "state": "", "favourite": False}
    story = follower.story(folder)
    is_kept = job.state in ENDED
    written = [str(changed_at(path)) for path in models_of(folder).values()]
    return {
        "head": head(job, story, _stages(folder), folder.image.exists()),
        "pictures": previews(folder),
        "chart": charts(story, _stages(folder) or story.stages),
        "log": section(
            "Log", f'<pre class="log">{escape(text)}</pre>' if (text := tail(folder)) else ""
        ),
        "result": turntable(service, folder) + statistics(folder) if is_kept else "",
        "downloads": downloads(service, folder) if is_kept else "",
        "model": " ".join(written) if is_kept else "",
        "state": job.state,
        "favourite": job.favourite,
    }


def marks_of(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells two looks apart: short, since a page sends it back every second."""
    return {
        key: sha256(value.encode()).hexdigest()[:16] if isinstance(value, str) else value
        for key, value in seen.items()
    }


def head(job: JobView, story: Story, stages: Mapping[str, int], is_picture: bool = False) -> str:
    """Show what the run makes, how far it is and when it ends, or why it ended."""
    about = [job.recipe, job.quality, f"seed {job.seed}"]
    if job.negative_prompt:
        about.append(f"not: {job.negative_prompt}")
    star = '<span class="star" title="favourite">★</span>' if job.favourite else ""
    name = escape(job.prompt or job.name)
    has_model = job.state in FROM and not is_picture
    export = f'<a href="export?name={quote(job.name)}">Export again</a>' if has_model else ""
    return (
        f'<header class="run-head"><div class="run-title"><h1>{name}</h1>{star}'
        f"{markup.badge(job.state)}"
        f'<span class="edit">{export}<a href="./?from={quote(job.name)}">Edit and run again</a>'
        "</span></div>"
        f"{markup.chips(about)}"
        f"{phase_bar(job, story, stages)}{_message(job)}</header>"
    )


def phase_bar(job: JobView, story: Story, stages: Mapping[str, int]) -> str:
    """Show the phases side by side, stages as wide as their steps, each filled as far as it is."""
    total = max(1, sum(stages.values()))
    widths = dict.fromkeys(BEFORE, SHORT)
    widths |= {name: (1 - 3 * SHORT) * steps / total for name, steps in stages.items()}
    widths |= dict.fromkeys(AFTER, SHORT)
    parts = ""
    for name, width in widths.items():
        filled = 1.0 if name in story.seconds or job.state == "done" else 0.0
        if name in stages and not filled:
            filled = story.steps.get(name, 0) / max(1, stages[name])
        is_now = job.state == "running" and job.phase == name
        took = markup.duration(story.seconds.get(name))
        kind = ("" if name in stages else " short") + (" is-now" if is_now else "")
        parts += (
            f'<div class="phase{kind}" style="flex:{width:.4f}" '
            f'title="{escape(name)} {took}"><i style="width:{100 * filled:.1f}%"></i>'
            f"<span>{escape(name)}</span></div>"
        )
    percent = round(100 * job.progress)
    return (
        f'<div class="phases" role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-label="Progress">{parts}</div>'
        f'<p class="now">{escape(where(job, story))}</p>'
    )


def charts(story: Story, stages: Mapping[str, int]) -> str:
    """Draw the loss, and the memory in use, over the steps."""
    most = max((gb for _, _, gb in story.memory), default=0.0)
    loss, memory = loss_chart(story.losses, stages), memory_chart(story.memory, stages)
    return section("Loss", loss) + section(f"Memory, at most {most:.1f} GB", memory)


def where(job: JobView, story: Story) -> str:
    """Say in words how far the run is."""
    if job.state == "queued":
        return "Waits for its turn. You may close this page; the run goes on without it."
    if job.state == "running":
        words = [job.phase or "begins"]
        if job.steps:
            words.append(f"step {job.step} of {job.steps}")
        if story.rate and job.steps:
            words.append(f"{story.rate:.1f} steps/s")
        if job.eta_s is not None:
            words.append(f"{markup.duration(job.eta_s)} of training left")
        return ", ".join(words)
    took = markup.duration(sum(story.seconds.values())) if story.seconds else ""
    ended = markup.ago(job.ended)
    return ", ".join(part for part in (f"took {took}" if took else "", ended) if part)


def _message(job: JobView) -> str:
    if not job.reason:
        return ""
    kind = "bad" if job.state == "failed" or job.reason.startswith(FAILED) else "note"
    return markup.notice(kind, job.reason[:1].upper() + job.reason[1:], _fix(job))


def _fix(job: JobView) -> str:
    """Say what can be done here; commands that resume are what the button does."""
    if " resume " in f" {job.fix} ":
        return "Resume goes on from the last checkpoint."
    return job.fix


def previews(folder: RunFolder) -> str:
    """Show the newest views: colour large, normals and opacity below, side views in a strip."""
    path = newest_sheet(folder)
    views = views_of(path)
    if path is None or not views:
        text = "The first pictures come after the model is loaded and a few dozen steps are done."
        return f'<div class="views is-empty"><p>{text}</p></div>'
    names = {folder.preview: "All views of the result", folder.image: "The picture"}
    about = names[path] if path in names else f"After {int(path.stem)} steps"
    strips = "".join(_strip(views[mode], mode) for mode in MODES if mode in views)
    return section(about, f'<div class="views">{strips}</div>')


def _strip(pictures: Sequence[str], mode: str) -> str:
    number = len(pictures)
    images = "".join(
        f'<img src="{picture}" alt="{mode} seen from {360 * i // number} degrees">'
        for i, picture in enumerate(pictures)
    )
    return (
        f"<figure><figcaption>{mode}</figcaption>"
        f'<div class="strip strip-{number} of-{mode}">{images}</div></figure>'
    )


def section(name: str, content: str) -> str:
    """Put a heading over content; nothing if there is none."""
    return f"<section><h2>{escape(name)}</h2>{content}</section>" if content else ""


def models_of(folder: RunFolder) -> dict[str, Path]:
    """Return where the model lies that the viewer can show, once there is one, by kind."""
    paths = {MESH: folder.exports / "model.glb", GAUSSIANS: folder.exports / "splats.ply"}
    return {kind: path for kind, path in paths.items() if path.is_file()}


def _stages(folder: RunFolder) -> dict[str, int]:
    try:
        return _stages_at(folder.config, folder.config.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=256)
def _stages_at(path: Path, changed: int) -> dict[str, int]:
    return dict(read_head(path).stages)


def _buttons(state: str, favourite: bool) -> list[gr.Button]:
    shown: list[gr.Button] = []
    for action, (word, states) in ACTIONS.items():
        if action == "favourite" and favourite:
            word = "★ Favourite"
        is_offered = bool(state) and (not states or state in states)
        main = action in ("stop", "resume")
        shown.append(
            gr.Button(word, visible=is_offered, variant="primary" if main else "secondary")
        )
    return [*shown, gr.Button(visible=state not in ("", "running"))]
