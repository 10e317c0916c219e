"""Compare: two runs over each other, from the same camera, with what differs between them.

The address names both (compare?a=...&b=...). A slider moves the border between the two pictures, or
the two turntables; it is an ordinary range field, so arrow keys move it too.
"""

from html import escape
from typing import Any

import gradio as gr

from dreamlab.core.config import Plain, load_yaml
from dreamlab.core.errors import DreamlabError, InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.web.pages import markup
from dreamlab.web.pages.changes import as_text, flat
from dreamlab.web.pages.parts import QUIET, html, on_load
from dreamlab.web.pages.pictures import MODES, newest_sheet, views_of
from dreamlab.web.pages.result import read_report, video_link
from dreamlab.web.service import Service

MOST = 200
"""Runs that can be chosen from, the newest ones."""
UNLIKE = ("version",)
"""Settings that are not worth telling."""
WIPE_SCRIPT = """
element.addEventListener('input', (event) => {
  const wipe = event.target.closest('.wipe');
  if (wipe) wipe.style.setProperty('--at', event.target.value + '%');
});
element.addEventListener('play', (event) => {
  const videos = [...element.querySelectorAll('video')];
  if (videos.length === 2) videos[1].currentTime = videos[0].currentTime;
}, true);
"""
"""Moves the border; turntables begin at the same moment."""
CHOOSE = markup.empty(
    "Choose two runs", "They are laid over each other, from the same camera.", "runs", "All runs"
)
TURNTABLE = "turntable"


def build(service: Service) -> None:
    """Lay out the page inside the Blocks that are open."""
    html(markup.title("Compare", "Two runs over each other: drag the border, or use arrow keys."))
    with gr.Row(elem_classes="filters"):
        left = gr.Dropdown([], label="Left", scale=3, elem_id="left")
        right = gr.Dropdown([], label="Right", scale=3, elem_id="right")
        mode = gr.Dropdown(
            [
                ("Colour", "rgb"),
                ("Normals", "normal"),
                ("Opacity", "opacity"),
                ("Turntable", TURNTABLE),
            ],
            value="rgb",
            label="Show",
            scale=1,
            min_width=140,
        )
        view = gr.Slider(0, 315, value=45, step=45, label="Seen from, degrees", scale=2)
    wipe = html(CHOOSE, js_on_load=WIPE_SCRIPT, elem_id="wipe")
    table = html("", elem_id="unlike")
    fields = [left, right, mode, view]

    def show(a: str | None, b: str | None, kind: str, angle: int | float) -> tuple[str, str]:
        try:
            return over_each_other(service, a, b, kind, angle), differences_of(service, a, b)
        except DreamlabError as error:
            return markup.problem(error), ""

    def start(request: gr.Request) -> list[Any]:
        runs = service.search(limit=MOST).entries
        choices = [
            (f"{e.prompt} ({e.recipe}, {e.quality}, seed {e.seed})", e.root.name) for e in runs
        ]
        known = [name for _, name in choices]
        asked = [str(request.query_params.get(side, "")) for side in ("a", "b")]
        picked = [name if name in known else None for name in asked]
        return [gr.Dropdown(choices, value=name) for name in picked]

    on_load(start, None, [left, right]).then(show, fields, [wipe, table], **QUIET)
    for field in fields:
        field.change(show, fields, [wipe, table], trigger_mode="always_last", **QUIET)
    gr.on([left.input, right.input], None, [left, right], None, js=REMEMBER)


REMEMBER = """(a, b) => {
  const names = Object.entries({a, b}).filter(([, name]) => name);
  history.replaceState(null, '', 'compare?' + new URLSearchParams(names));
}"""
"""Puts the choice into the address, so that it can be kept and sent."""


def over_each_other(
    service: Service, a: str | None, b: str | None, kind: str, angle: int | float
) -> str:
    """Lay two runs over each other.

    Raises:
        InputError: one of them has no such picture.
    """
    if not a or not b:
        return CHOOSE
    folders = [service.open(name) for name in (a, b)]
    left, right = (_media(service, folder, kind, angle) for folder in folders)
    names = "".join(
        f'<a href="{markup.run_link(folder.root.name)}">{side}: '
        f"{escape(service.describe(folder).prompt or folder.root.name)}</a>"
        for side, folder in zip(("Left", "Right"), folders, strict=True)
    )
    return (
        f'<div class="wipe" style="--at:50%">{left}{right}<span class="wipe-line"></span>'
        '<input type="range" min="0" max="100" value="50" aria-label="border between the two runs">'
        f'</div><div class="wipe-names">{names}</div>'
    )


def _media(service: Service, folder: RunFolder, kind: str, angle: int | float) -> str:
    prompt = escape(service.describe(folder).prompt)
    if kind == TURNTABLE:
        if not folder.turntable.is_file():
            raise InputError(f"“{prompt}” has no turntable yet.", "wait until it is done.")
        link = video_link(service, folder)
        return f'<video src="{link}" autoplay loop muted playsinline aria-label="{prompt}"></video>'
    assert kind in MODES
    views = views_of(newest_sheet(folder))
    pictures = views.get(kind)
    if not pictures:
        raise InputError(f"“{prompt}” has no such picture yet.", "wait for its first preview.")
    number = round(angle / 360 * len(pictures)) % len(pictures)
    return f'<img src="{pictures[number]}" alt="{prompt}">'


def differences_of(service: Service, a: str | None, b: str | None) -> str:
    """Tabulate results of two runs, and the settings that differ."""
    if not a or not b:
        return ""
    folders = [service.open(name) for name in (a, b)]
    results = [_results(folder) for folder in folders]
    rows = [[key, *(values.get(key, "") for values in results)] for key in results[0] | results[1]]
    unlike = _unlike(*(_settings(folder) for folder in folders))
    return _table("Results", rows) + _table(
        "Settings that differ", unlike, "Both have the same settings."
    )


def _unlike(left: dict[str, Plain], right: dict[str, Plain]) -> list[list[str]]:
    """List the settings that differ; a stage that only one run has is one line."""
    rows: list[list[str]] = []
    for stage in left | right:
        both = [settings.get(stage) for settings in (left, right)]
        prefix = f"stages.{stage}." if stage else ""
        if None in both:
            rows.append([prefix[:-1], *("" if own is None else _in_short(own) for own in both)])
            continue
        rows += [
            [f"{prefix}{key}", *(as_text(own[key]) if key in own else "" for own in both if own)]
            for key in left[stage] | right[stage]
            if key not in UNLIKE and left[stage].get(key) != right[stage].get(key)
        ]
    return rows


def _in_short(stage: Plain) -> str:
    """Say what a stage does."""
    parts = [stage.get(f"{part}.name", "") for part in ("representation", "guidance")]
    return ", ".join([f"{stage.get('steps', 0)} steps", *filter(None, parts)])


def _settings(folder: RunFolder) -> dict[str, Plain]:
    """Return the settings of a run by dotted key, stage by stage; those of no stage under ""."""
    config = load_yaml(folder.config)
    stages = config.pop("stages", {})
    return {"": flat(config), **{name: flat(stage) for name, stage in stages.items()}}


def _table(name: str, rows: list[list[str]], otherwise: str = "") -> str:
    if not rows:
        return f"<section><h2>{name}</h2><p>{otherwise}</p></section>" if otherwise else ""
    cells = [[escape(str(cell)) for cell in row] for row in rows]
    return f"<section><h2>{name}</h2>{markup.table(['', 'Left', 'Right'], cells)}</section>"


def _results(folder: RunFolder) -> dict[str, str]:
    report = read_report(folder)
    export: Plain = report.get("export") or {}
    if not report:
        return {}
    return {
        "Time": markup.duration(report["seconds"].get("total")),
        "Faces": f"{export.get('faces', 0):,}",
        "Outline agrees": f"{100 * (export.get('silhouette_iou') or 0):.1f} %",
        "Checks": "passed" if export.get("valid") else "failed",
    }
