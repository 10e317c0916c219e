"""The layout editor of the Generate page: a table of boxes, their picture, and what is wrong.

Boxes here are what the setting `layout.boxes` holds, one of the changed settings of the form. So
the command line, the YAML and the job have them too. They are checked by the reader of layouts
itself, and drawn by the process that has torch; nothing here knows what a good box is.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from dreamlab.core.errors import DreamlabError
from dreamlab.web.pages import markup
from dreamlab.web.pages.parts import EACH, QUIET, held, html
from dreamlab.web.service import Service

BOXES = "layout.boxes"
LAYOUT = "layout"
NUMBERS = ("center", "size")
AXES = "xyz"
NEW_BOX = {"prompt": "", "center": [0.0, 0.0, 0.0], "size": [0.6, 0.6, 0.6]}
SCRIPT = """
const number = (text) => text.trim() !== '' && isFinite(text) ? Number(text) : text;
const boxes = () => [...element.querySelectorAll('tbody tr')].map((row) => {
  const value = (name) => row.querySelector(`[data-of="${name}"]`).value;
  const three = (name) => [0, 1, 2].map((axis) => number(value(name + axis)));
  const box = {...JSON.parse(row.dataset.rest), prompt: value('prompt')};
  return {...box, center: three('center'), size: three('size'), yaw: number(value('yaw'))};
});
element.addEventListener('change', () => trigger('select', {boxes: boxes()}));
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-remove]');
  if (!button) return;
  button.closest('tr').remove();
  trigger('select', {boxes: boxes()});
});
"""
ABOUT = (
    '<p class="hint">For scenes of several things: each has a box and a prompt of its own. x is '
    "where fronts look, z is up, and all lies in the cube from -1 to 1. Without boxes "
    "of your own, toybox makes them for a prompt that tells of several things.</p>"
)
NO_BOXES = '<p class="layout-none">No boxes of your own.</p>'
NEVER = '<p class="layout-none">No boxes, whatever the prompt says.</p>'


class LayoutForm:
    """The fields of the editor."""

    def __init__(self, service: Service) -> None:
        """Lay everything out."""
        self.service = service
        self.shown = held([])
        html(ABOUT)
        with gr.Row(elem_classes="layout-buttons"):
            self.read = gr.Button("Read from the prompt", size="sm", elem_id="read-layout")
            self.add = gr.Button("Add a box", size="sm", elem_id="add-box")
            self.clear = gr.Button("Remove all", size="sm", elem_id="clear-layout")
            self.without = gr.Button("Go without boxes", size="sm", elem_id="no-layout")
        self.table = html(NO_BOXES, js_on_load=SCRIPT, elem_id="boxes")
        self.seen = html("", elem_id="layout-seen")

    def wire(self, prompt: gr.Textbox, chosen: gr.JSON) -> list[Any]:
        """Say what follows on what; return the events after which the settings are others."""
        taken = [chosen, self.shown, self.table, self.seen]
        events = [
            self.table.select(self.take, chosen, taken, **EACH),
            self.read.click(self.take_prompt, [prompt, chosen], taken, **QUIET),
            self.add.click(self.take_new, chosen, taken, **QUIET),
            self.clear.click(self.take_none, chosen, taken, **QUIET),
            self.without.click(self.take_never, chosen, taken, **QUIET),
        ]
        # settings may come from elsewhere too: from a run, or the YAML
        chosen.change(
            self.follow, [chosen, self.shown], [self.shown, self.table, self.seen], **QUIET
        )
        return events

    def take(self, kept: dict[str, Any], event: gr.EventData) -> list[Any]:
        """Take the boxes of the table, which stays as it is."""
        fresh = with_boxes(kept, event._data["boxes"])
        boxes = fresh.get(BOXES, [])
        return [fresh, boxes, gr.skip() if boxes else table([]), self.look(boxes)]

    def take_prompt(self, prompt: str, kept: dict[str, Any]) -> list[Any]:
        """Read boxes from the words of the prompt."""
        try:
            boxes = self.service.layout(None, prompt).boxes
        except DreamlabError as error:
            return [gr.skip(), gr.skip(), gr.skip(), markup.problem(error)]
        return self._all(kept, boxes)

    def take_new(self, kept: dict[str, Any]) -> list[Any]:
        """Add a box in the middle."""
        return self._all(kept, [*kept.get(BOXES, []), NEW_BOX])

    def take_none(self, kept: dict[str, Any]) -> list[Any]:
        """Leave the layout to the recipe again."""
        return self._all(kept, [])

    def take_never(self, kept: dict[str, Any]) -> list[Any]:
        """Go without boxes, whatever the recipe says."""
        return [with_boxes(kept, []) | {LAYOUT: None}, [], NEVER, ""]

    def follow(self, kept: dict[str, Any], shown: list[Any]) -> list[Any]:
        """Show boxes that came from elsewhere."""
        boxes = kept.get(BOXES, [])
        if boxes == shown:
            return [gr.skip()] * 3
        _, *seen = self.take_never(kept) if LAYOUT in kept else self._all(kept, boxes)
        return seen

    def _all(self, kept: Mapping[str, Any], boxes: Sequence[Any]) -> list[Any]:
        return [with_boxes(kept, boxes), list(boxes), table(boxes), self.look(boxes)]

    def look(self, boxes: Sequence[Any]) -> str:
        """Draw the boxes, or say what is wrong with them."""
        if not boxes:
            return ""
        try:
            seen = self.service.layout(boxes, "")
        except DreamlabError as error:
            return markup.problem(error)
        return (
            f'<img class="layout-picture" src="data:image/png;base64,{seen.picture}" '
            'alt="the boxes from the front, the left, the back and above">'
        )


def with_boxes(kept: Mapping[str, Any], boxes: Sequence[Any]) -> dict[str, Any]:
    """Return the changed settings with these boxes; with none, the layout is the recipe's again."""
    others = {key: value for key, value in kept.items() if key.partition(".")[0] != LAYOUT}
    return others | ({BOXES: list(boxes)} if boxes else {})


def table(boxes: Sequence[Mapping[str, Any]]) -> str:
    """Show boxes as rows of fields."""
    if not boxes:
        return NO_BOXES
    rows = "".join(_row(number, box) for number, box in enumerate(boxes, 1))
    heads = ("", "What is in it", "Middle x, y, z", "Size x, y, z", "Turned, °", "")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        '<div class="table-wrap"><table class="table boxes">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(number: int, box: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in box.items() if key in ("front", "views")}
    triples = "".join(
        f'<td class="three">{"".join(_field(number, box, name, axis) for axis in range(3))}</td>'
        for name in NUMBERS
    )
    prompt, yaw = escape(str(box.get("prompt", ""))), escape(str(box.get("yaw", 0)))
    return (
        f'<tr data-rest="{escape(json.dumps(rest))}"><td>{number}</td>'
        f'<td><input type="text" data-of="prompt" value="{prompt}" '
        f'placeholder="a red mushroom" aria-label="what is in box {number}"></td>{triples}'
        f'<td><input type="text" inputmode="decimal" data-of="yaw" value="{yaw}" '
        f'aria-label="turn of box {number}, degrees"></td><td><button type="button" data-remove '
        f'aria-label="remove box {number}">✕</button></td></tr>'
    )


def _field(number: int, box: Mapping[str, Any], name: str, axis: int) -> str:
    values = box.get(name)
    value = values[axis] if isinstance(values, list | tuple) and axis < len(values) else ""
    return (
        f'<input type="text" inputmode="decimal" data-of="{name}{axis}" '
        f'value="{escape(str(value))}" aria-label="{name} {AXES[axis]} of box {number}">'
    )
