"""Export: the model of a finished run again, in other formats, sizes and budgets.

The address may name the run (export?name=...). What is asked for is a job of the queue, as a new
run would be; the page follows it by the run's record and shows files when they are there.
"""

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from dreamlab.core.config import Plain, load_yaml
from dreamlab.core.errors import DreamlabError, MissingError
from dreamlab.core.run_folder import RunFolder
from dreamlab.export.settings import BLENDER_FORMATS, ExportConfig
from dreamlab.jobs.queue import exports
from dreamlab.web.pages import markup
from dreamlab.web.pages.changes import as_text
from dreamlab.web.pages.parts import EACH, LAST, QUIET, held, html, on_load
from dreamlab.web.pages.pictures import cover
from dreamlab.web.pages.result import exported, statistics
from dreamlab.web.service import Service

SECONDS = 1.0
"""Between two looks at the run."""
MOST = 200
"""Runs that can be chosen from, the newest ones."""
FORMATS = {
    "glb": "Blender, the web, game engines; with texture",
    "obj": "older programs; with texture",
    "ply": "mesh with colours at its vertices",
    "stl": "shape alone, for printing",
    "usdz": "Apple devices; with texture",
    "fbx": "game engines; with texture",
    "blend": "a scene of Blender",
}
TEXTURES = (256, 512, 1024, 2048, 4096)
FIELDS = ("height", "max_faces", "texture_size")
"""Settings of the export that have a field here, beside the formats."""
FORMATS_SCRIPT = """
element.addEventListener('change', () => {
  const chosen = [...element.querySelectorAll('input:checked')].map((box) => box.value);
  trigger('select', {formats: chosen});
});
"""
CHOOSE = markup.empty(
    "Choose a run", "One that is done, or was stopped and kept.", "runs", "All runs"
)
REMEMBER = """(name) => {
  history.replaceState(null, '', name ? 'export?name=' + encodeURIComponent(name) : 'export');
}"""


def build(service: Service) -> None:
    """Lay out the page inside the Blocks that are open."""
    _Page(service).wire()


class _Page:
    """The fields of the page, and what happens when they are used."""

    def __init__(self, service: Service) -> None:
        """Lay everything out."""
        self.service = service
        self.formats = held(["glb"])
        html(markup.title("Export", "A finished model again: other formats, size and detail."))
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=3, min_width=320):
                self._lay_out_form()
            with gr.Column(scale=2, min_width=300, elem_classes="side"):
                self.progress = html("", elem_id="export-state")
                self.result = html("")
                self.files = html("", elem_id="export-files")

    def _lay_out_form(self) -> None:
        self.name = gr.Dropdown([], label="Run", elem_id="export-run")
        self.cards = html(js_on_load=FORMATS_SCRIPT, elem_id="formats")
        with gr.Row():
            self.height = gr.Number(
                label="Height, m", value=1.0, minimum=0.001, min_width=150, elem_id="height"
            )
            self.faces = gr.Number(
                label="Most triangles", value=20_000, precision=0, min_width=150, elem_id="faces"
            )
            self.texture = gr.Dropdown(
                _sizes(1024),
                value=1024,
                label="Texture",
                min_width=150,
                elem_id="texture",
            )
        self.said = html("")
        self.make = gr.Button("Export", variant="primary", interactive=False, elem_id="export")
        self.line = gr.Code(
            language="shell",
            interactive=False,
            wrap_lines=True,
            lines=1,
            max_lines=6,
            label="The same in a terminal",
            elem_id="export-line",
        )

    def wire(self) -> None:
        """Say what follows on what."""
        fields = [self.formats, self.height, self.faces, self.texture]
        form, seen = [self.name, *fields], [self.progress, self.result, self.files, self.line]
        looked, shown = [*seen, *form], [*seen, self.make]
        self.cards.select(_formats_of, None, self.formats, **EACH).then(
            self.look, looked, shown, **LAST
        )
        for field in (self.height, self.faces, self.texture):
            field.change(self.look, looked, shown, **LAST)
        filled = [*fields, self.cards, self.said]
        taken = self.name.input(self.take, self.name, filled, **QUIET)
        taken.then(self.look, looked, shown, **LAST)
        self.name.input(None, self.name, None, js=REMEMBER)
        asked = self.make.click(self.submit, form, self.said, show_progress="minimal")
        asked.then(self.look, looked, shown, **LAST)
        opened = on_load(self.start, None, [self.name, *filled])
        opened.then(self.look, looked, shown, **LAST)
        gr.Timer(SECONDS).tick(self.look, looked, shown, **QUIET)

    def start(self, request: gr.Request) -> list[Any]:
        """List the runs, and choose the one that the address names."""
        runs = self.service.search(states=exports.FROM, limit=MOST).entries
        choices = [
            (f"{run.prompt or run.root.name} ({run.recipe}, {run.quality}, seed {run.seed})", name)
            for run in runs
            if not RunFolder(run.root).image.exists() and (name := run.root.name)
        ]
        asked = str(request.query_params.get("name", ""))
        if asked and asked not in [name for _, name in choices]:
            choices = [*self._busy(asked), *choices]
        name = asked if asked in [name for _, name in choices] else None
        return [gr.Dropdown(choices, value=name), *self.take(name)]

    def _busy(self, name: str) -> list[tuple[str, str]]:
        """Offer a run that is being exported in this moment."""
        try:
            folder = self.service.open(name)
        except DreamlabError:
            return []
        prompt = self.service.describe(folder).prompt or name
        return [(prompt, name)] if exports.read(folder) is not None else []

    def take(self, name: str | None) -> list[Any]:
        """Fill the form with what the run has been exported with."""
        try:
            config = load_yaml(self.service.open(name or "").config).get("export") or {}
        except DreamlabError:
            config = {}
        values = [config.get(key, getattr(ExportConfig(), key)) for key in ("formats", *FIELDS)]
        *others, size = values
        texture = gr.Dropdown(_sizes(size), value=size)
        return [*others, texture, format_cards(values[0], exports.why_not_blender()), ""]

    def look(
        self,
        progress: str | None,
        result: str | None,
        files: str | None,
        line: str | None,
        name: str | None,
        formats: list[str],
        *fields: Any,
    ) -> list[Any]:
        """Show the state of the run, its files, and the command; what is shown already is kept.

        What is shown comes from the page itself: looks may overtake each other on their way.
        """
        panels = {"progress": "", "result": "", "files": "", "line": "", "ready": ""}
        if not name:
            panels["progress"] = CHOOSE
        else:
            panels |= self._panels(name, formats, fields)
        before = {"progress": progress, "result": result, "files": files, "line": line}
        fresh = [
            panels[key] if panels[key] != (shown or "") else gr.skip()
            for key, shown in before.items()
        ]
        return [*fresh, gr.Button(interactive=bool(panels["ready"]))]

    def _panels(self, name: str, formats: list[str], fields: Sequence[Any]) -> dict[str, str]:
        try:
            folder = self.service.open(name)
            job = self.service.describe(folder)
        except DreamlabError as error:
            return {"progress": markup.problem(error)}
        is_ended = job.state in exports.FROM
        picture = cover(folder)
        image = f'<img class="export-cover" src="{picture}" alt="">' if picture else ""
        return {
            "progress": image + _progress(job.state, job.phase, job.reason, job.fix, job.name),
            "result": statistics(folder) if is_ended else "",
            "files": exported(self.service, folder) if is_ended else "",
            "line": command(folder, settings_of(formats, *fields)),
            "ready": "yes" if is_ended and formats else "",
        }

    def submit(self, name: str | None, formats: list[str], *fields: Any) -> str:
        """Queue the export; return what is wrong with it."""
        try:
            self.service.export(self.service.open(name or ""), settings_of(formats, *fields))
        except DreamlabError as error:
            return markup.problem(error)
        return ""


def _sizes(own: int) -> list[tuple[str, int]]:
    """List the sizes of a texture to choose from, and that which a run has."""
    return [(f"{size} px", size) for size in sorted({*TEXTURES, own})]


def _formats_of(event: gr.EventData) -> list[str]:
    return [kind for kind in event._data["formats"] if kind in FORMATS]


def settings_of(
    formats: Sequence[str],
    height: int | float | None,
    faces: int | float | None,
    texture: int | None,
) -> Plain:
    """Return the settings of a form, by dotted key; a field that was emptied asks for nothing."""
    whole = None if faces is None else int(faces)
    values = {"formats": list(formats), "height": height, "max_faces": whole}
    values["texture_size"] = texture
    return {f"export.{key}": value for key, value in values.items() if value not in (None, [])}


def command(folder: RunFolder, settings: Mapping[str, Any]) -> str:
    """Return the command line that makes the same export."""
    words = ["dreamlab", "export", str(folder.root)]
    for key, value in settings.items():
        if key == "export.formats":
            words += [word for kind in value for word in ("--format", kind)]
        else:
            words.append(f"{key}={as_text(value)}")
    return shlex.join(words)


def format_cards(chosen: Sequence[str], missing: MissingError | None) -> str:
    """Show the formats to tick; those of Blender are grey where it is `missing`, and say why."""
    cards = ""
    for kind, about in FORMATS.items():
        is_off = missing is not None and kind in BLENDER_FORMATS
        marks = " disabled" if is_off else " checked" if kind in chosen else ""
        why = f' title="{escape(missing.message)}"' if missing is not None and is_off else ""
        name = ".blend" if kind == "blend" else kind.upper()
        cards += (
            f'<label class="format{" is-off" if is_off else ""}"{why}>'
            f'<input type="checkbox" name="format" value="{kind}"{marks}>'
            f"<b>{name}</b><span>{about}</span></label>"
        )
    reason = ""
    if missing is not None:
        reason = (
            f'<p class="why-not"><b>Greyed:</b> {escape(f"{missing.message} {missing.fix}")}</p>'
        )
    return f'<fieldset class="formats"><legend>Formats</legend>{cards}</fieldset>{reason}'


def _progress(state: str, phase: str, reason: str, fix: str, name: str) -> str:
    """Say where the run is: at rest, in the queue, or being exported."""
    about = {
        "queued": "Waits for its turn. You may close this page.",
        "running": f"{phase or 'Begins'}: the files appear here when they are complete.",
    }.get(state, "")
    words = f'<p class="now">{escape(about[:1].upper() + about[1:])}</p>' if about else ""
    has_failed = reason.startswith(exports.FAILED)
    failed = markup.notice("bad", reason[:1].upper() + reason[1:], fix) if has_failed else ""
    link = f'<a href="{markup.run_link(name)}">The run</a>'
    return f'<p class="export-state">{markup.badge(state)} {link}</p>{words}{failed}'
