"""Generate: say what to make, choose how, see what it takes, and queue the run.

Whatever changes, the whole form is checked at once by the service, so a wrong value, an unknown
word and the time it will take are shown while typing. Prompt, recipe, quality, seed and the changed
settings are the whole truth of the form; the YAML tab, the command line and the address of the page
are other views of it.
"""

import json
import random
from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from dreamlab.core.errors import DreamlabError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE
from dreamlab.web.pages import form_rules, layout_form, markup, method, settings_form
from dreamlab.web.pages.changes import as_text, plain
from dreamlab.web.pages.parts import EACH, LAST, QUIET, held, html, on_load
from dreamlab.web.pages.pictures import cover
from dreamlab.web.service import Service
from dreamlab.web.views import RecipeView

DEFAULT_QUALITY = "standard"
MAX_CHIP = 90
"""Characters of a changed setting that are shown above the tabs."""
METHOD = "Method"
"""Name of the tab with the parts of the recipe."""
SECONDS = 5.0
"""Between two looks at the runs in progress."""
RECENT = 60
"""Finished runs in which pictures for the cards are looked for."""
QUALITY_WORDS = {
    "draft": ("Draft", "A first look"),
    "standard": ("Standard", "The usual choice"),
    "high": ("High", "More steps, finer export"),
}
CARDS_SCRIPT = """
element.addEventListener('change', (event) => {
  if (event.target.matches('input[type=radio]')) trigger('select', {value: event.target.value});
});
"""
WORDS_SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-near]');
  if (button) trigger('select', {word: button.dataset.word, near: button.dataset.near});
});
"""
LISTING = '<div class="loading">Reading the settings; the first time takes some seconds.</div>'
GO = "(name) => { if (name) window.location.assign('run?name=' + encodeURIComponent(name)); }"
"""Opens the page of a new run."""
REMEMBER = """(prompt, negative, recipe, quality, seed, settings) => {
  const form = JSON.stringify({prompt, negative, recipe, quality, seed, settings});
  const query = form === 'BLANK' ? '' : '?' + new URLSearchParams({form});
  history.replaceState(null, '', window.location.pathname + query);
}""".replace(
    "BLANK",
    json.dumps(dict(zip(form_rules.FIELDS, form_rules.BLANK, strict=True)), separators=(",", ":")),
)
"""Puts the form into the address: it outlives a refresh, a lost connection and the way back."""


def build(service: Service) -> None:
    """Lay out the page inside the Blocks that are open."""
    _Page(service).wire()


class _Page:
    """The fields of the page, and what happens when they are used."""

    def __init__(self, service: Service) -> None:
        """Lay everything out."""
        self.service = service
        self.recipes = {recipe.name: recipe for recipe in service.recipes()}
        self.quality, self.chosen, self.boxes = held(DEFAULT_QUALITY), held({}), held(0)
        html(markup.title("Generate", "A sentence becomes a textured model, on this machine."))
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=3, min_width=320):
                self._lay_out_wish()
            with gr.Column(scale=2, min_width=300, elem_classes="side"):
                self._lay_out_side()
        self.changed, self.tab = html("", elem_id="changed"), held("")
        with gr.Tabs(elem_classes="details") as self.tabs:
            self._lay_out_details()
        self.made = gr.Textbox(visible="hidden", elem_id="made")
        self.form = [self.prompt, self.negative, self.recipe, self.quality, self.seed, self.chosen]

    def _lay_out_wish(self) -> None:
        self.prompt = gr.Textbox(
            label="Prompt",
            placeholder="a red mushroom",
            lines=2,
            max_lines=4,
            max_length=form_rules.MAX_TEXT,
            elem_id="prompt",
            autofocus=True,
        )
        self.words = html("", js_on_load=WORDS_SCRIPT)
        self.negative = gr.Textbox(
            label="Not this",
            placeholder="what it should not be (optional)",
            max_length=form_rules.MAX_TEXT,
            elem_id="negative",
        )
        with gr.Row(elem_classes="keep-row"):
            self.recipe = gr.Dropdown(
                [(f"{name}: {each.summary}", name) for name, each in self.recipes.items()],
                value=DEFAULT_RECIPE,
                label="Recipe",
                filterable=True,
                elem_id="recipe",
            )
        self.about = html(_about(self.recipes[DEFAULT_RECIPE]))
        self.cards = html(js_on_load=CARDS_SCRIPT, elem_id="quality")

    def _lay_out_side(self) -> None:
        with gr.Row(elem_classes="keep-row"):
            self.seed = gr.Number(
                label="Seed",
                value=0,
                precision=0,
                minimum=0,
                maximum=form_rules.MAX_SEED,
                scale=4,
                min_width=100,
                elem_id="seed",
            )
            self.dice = gr.Button("⚄ Roll", scale=1, min_width=90)
        self.verdict = html(form_rules.NOTHING_YET, elem_id="verdict")
        self.make = gr.Button(
            "Generate", variant="primary", size="lg", interactive=False, elem_id="generate-button"
        )
        html('<p class="hint"><kbd>Ctrl</kbd> <kbd>Enter</kbd> works anywhere.</p>')
        self.failed, self.active = html(""), html("")

    def _lay_out_details(self) -> None:
        with gr.Tab("Settings"):
            self.settings = html(LISTING, js_on_load=settings_form.SCRIPT, elem_id="settings")
        with gr.Tab(METHOD):
            self.method = html(method.LISTING, js_on_load=method.SCRIPT, elem_id="method")
        with gr.Tab("Layout"):
            self.layout = layout_form.LayoutForm(self.service)
        with gr.Tab("YAML"):
            gr.Markdown(
                "Every setting of this run. Edit, then apply: what differs goes into the form."
            )
            self.applied = html("")
            self.apply = gr.Button(
                "Apply changes", size="sm", elem_id="apply-yaml", elem_classes="compact"
            )
            self.config = gr.Code(
                language="yaml", interactive=True, lines=12, max_lines=32, label="config.yaml"
            )
        with gr.Tab("Command line"):
            gr.Markdown("The same run from a terminal.")
            self.line = gr.Code(
                language="shell", interactive=False, wrap_lines=True, label="Command"
            )

    def wire(self) -> None:
        """Say what follows on what; every change of the form is looked at."""
        told = [self.prompt, self.recipe, self.quality, self.chosen]
        for field in (self.prompt, self.negative, self.seed):
            # `change`: `input` of a text tells of keys alone, not of what is pasted or dictated
            field.change(None, self.form, None, js=REMEMBER)
            field.change(self.look, self.form, self._seen, **LAST)
        # `input`, not `change`: a form that is filled in from a run keeps its settings
        outputs = [self.about, self.cards, self.settings, self.chosen, self.changed]
        taken = self.recipe.input(self.take_recipe, told[:3], outputs, **LAST)
        self._then_look(taken)
        outputs = [self.quality, self.settings]
        self._then_look(self.cards.select(self.take_quality, told, outputs, **EACH))
        self._then_look(self.dice.click(_roll, None, self.seed, **QUIET))
        outputs = [self.chosen, self.changed, self.settings]
        self._then_look(self.settings.select(self.take_settings, told, outputs, **EACH))
        self._then_look(self.method.select(self.take_part, told, outputs, **EACH))
        self.boxes.change(self.list_settings, told, self.settings, **LAST)
        for event in self.layout.wire(self.prompt, self.chosen):
            self._then_look(event.then(_changed, self.chosen, self.changed, **QUIET))
        parts = [self.tab, *told]
        for field in told:
            field.change(self.list_parts, parts, self.method, **LAST)
        self.tabs.select(_selected, None, self.tab, **EACH).then(
            self.list_parts, parts, self.method, **LAST
        )
        self._then_look(self.words.select(self.take_word, self.prompt, self.prompt, **EACH))
        fields = [self.prompt, self.negative, self.seed, self.chosen, self.settings, self.changed]
        self._then_look(
            self.apply.click(
                self.take_yaml, [self.config, *self.form], [self.applied, *fields], **QUIET
            )
        )
        asked = self.make.click(
            self.submit, self.form, [self.made, self.failed], show_progress="minimal"
        )
        asked.then(None, self.made, None, js=GO)
        outputs = [*self.form, self.about, self.cards, self.changed, self.active]
        opened = on_load(self.start, None, outputs)
        self._then_look(opened.then(self.list_settings, told, self.settings, **QUIET))
        gr.Timer(SECONDS).tick(lambda: _active(self.service), None, self.active, **QUIET)

    @property
    def _seen(self) -> list[gr.components.Component]:
        return [self.verdict, self.words, self.config, self.line, self.make, self.boxes]

    def _then_look(self, event: Any) -> None:
        event.then(None, self.form, None, js=REMEMBER)
        event.then(self.look, self.form, self._seen, **LAST)

    def look(self, *form: Any) -> list[Any]:
        """Check the form and show what it means."""
        seen = form_rules.see(self.service, *form)
        config = gr.skip() if seen.yaml is None else seen.yaml
        ready = gr.Button(interactive=seen.is_ready)
        boxes = gr.skip() if seen.boxes is None else seen.boxes
        return [seen.verdict, seen.words, config, seen.command, ready, boxes]

    def list_settings(
        self, prompt: str, name: str, level: str, kept: dict[str, Any], opened: str = ""
    ) -> str:
        """Show the fields of all settings that such a run has; what is refused is said beside."""
        told = prompt.strip() or form_rules.SAMPLE
        try:
            settings = self.service.settings(name, level, told, kept)
        except DreamlabError:
            settings = self.service.settings(name, level)
        return settings_form.form(settings, kept, opened)

    def list_parts(self, tab: str, prompt: str, name: str, level: str, kept: dict[str, Any]) -> Any:
        """Show what each stage could have, if anybody looks: to try it takes seconds."""
        if tab != METHOD:
            return gr.skip()
        told = prompt.strip() or form_rules.SAMPLE
        try:
            return method.form(self.service.parts(name, level, method.concerned(kept), told))
        except DreamlabError as error:
            return markup.problem(error)

    def take_part(
        self, prompt: str, name: str, level: str, kept: dict[str, Any], event: gr.EventData
    ) -> list[Any]:
        """Take another component; settings of the one before mean nothing to it."""
        fresh = method.taken(kept, **event._data)
        return [fresh, _changed(fresh), self.list_settings(prompt, name, level, fresh)]

    def take_recipe(self, prompt: str, name: str, level: str) -> list[Any]:
        """Take another recipe; settings of the old one may mean nothing to it."""
        recipe = self.recipes[name]
        cards = _cards(self.service, recipe, level)
        return [_about(recipe), cards, self.list_settings(prompt, name, level, {}), {}, ""]

    def take_quality(
        self, prompt: str, name: str, _: str, kept: dict[str, Any], event: gr.EventData
    ) -> list[Any]:
        """Take another quality."""
        level = event._data["value"]
        return [level, self.list_settings(prompt, name, level, kept)]

    def take_settings(
        self, prompt: str, name: str, level: str, kept: dict[str, Any], event: gr.EventData
    ) -> list[Any]:
        """Take all settings that were changed in their form, or their defaults again."""
        changes = event._data["changes"]
        fresh = {key: value for key, value in kept.items() if key not in changes}
        try:
            fresh |= {key: plain(text) for key, text in changes.items() if text is not None}
        except DreamlabError as error:
            return [kept, markup.problem(error), gr.skip()]
        parts = [
            key for key in changes if settings_form.is_part(key) and fresh.get(key) != kept.get(key)
        ]
        if not parts:
            return [fresh, _changed(fresh), gr.skip()]
        fresh = settings_form.without_those_of(parts, fresh)
        listed = self.list_settings(prompt, name, level, fresh, settings_form.group_of(parts[-1]))
        return [fresh, _changed(fresh), listed]

    def take_word(self, text: str, event: gr.EventData) -> str:
        """Put a word that the model knows in the place of another one."""
        return form_rules.replace_word(text, event._data["word"], event._data["near"])

    def take_yaml(self, text: str, *form: Any) -> list[Any]:
        """Take what was changed in the file."""
        try:
            *fields, kept = form_rules.edited(self.service, text, *form)
        except DreamlabError as error:
            return [markup.problem(error), *[gr.skip()] * 6]
        note = f"Applied; {len(kept)} setting{'s differ' if len(kept) != 1 else ' differs'}."
        listed = self.list_settings(str(fields[0]), form[2], form[3], kept)
        return [markup.notice("good", note), *fields, kept, listed, _changed(kept)]

    def submit(self, *form: Any) -> tuple[str, str]:
        """Queue the run; return its name, or why there is none."""
        try:
            return self.service.submit(form_rules.wish_of(*form)).root.name, ""
        except DreamlabError as error:
            return "", markup.problem(error)

    def start(self, request: gr.Request) -> list[Any]:
        """Fill the page when it is opened: the address may hold a form, or name a run."""
        name, written = (str(request.query_params.get(key, "")) for key in ("from", "form"))
        if not name and not written:  # what was typed meanwhile stays
            cards = _cards(self.service, self.recipes[DEFAULT_RECIPE], DEFAULT_QUALITY)
            return [*[gr.skip()] * len(self.form), gr.skip(), cards, "", _active(self.service)]
        if written:
            form = form_rules.written(written)
        else:
            form = form_rules.started(self.service, name)
        recipe, level, kept = self.recipes[form[2]], form[3], form[5]
        cards = _cards(self.service, recipe, level)
        return [*form, _about(recipe), cards, _changed(kept), _active(self.service)]


def _selected(event: gr.SelectData) -> str:
    return str(event.value)


def _roll() -> int:
    return random.randint(0, form_rules.MAX_SEED)


def _about(recipe: RecipeView) -> str:
    """Show what a recipe puts together."""
    parts = {"Prior": recipe.prior, "Shape": recipe.representation, "Guidance": recipe.guidance}
    return markup.facts(parts)


def _cards(service: Service, recipe: RecipeView, chosen: str) -> str:
    """Show the qualities of a recipe: picture of the newest result, what it takes."""
    pictures = _pictures(service, recipe.name)
    cards = ""
    for level in recipe.qualities:
        name, about = QUALITY_WORDS[level]
        picture = pictures.get(level)
        image = f'<img src="{picture}" alt="">' if picture else '<span class="no-picture"></span>'
        needs = recipe.needs.get(level, "not measured yet")
        checked = " checked" if level == chosen else ""
        cards += (
            f'<label class="card-choice"><input type="radio" name="quality" value="{level}"'
            f"{checked}>{image}<b>{name}</b><span>{about}</span>"
            f"<small>{escape(needs[:1].upper() + needs[1:])}</small></label>"
        )
    return f'<fieldset class="card-choices"><legend>Quality</legend>{cards}</fieldset>'


def _pictures(service: Service, recipe: str) -> dict[str, str]:
    """Return a picture of the newest finished run for each quality of a recipe."""
    found: dict[str, str] = {}
    for entry in service.search(states=("done",), limit=RECENT).entries:
        if entry.recipe == recipe and entry.quality not in found:
            picture = cover(RunFolder(entry.root))
            if picture:
                found[entry.quality] = picture
    return found


def _changed(settings: Mapping[str, Any]) -> str:
    """Show the settings that differ from the recipe."""
    if not settings:
        return ""
    texts = (f"{key}={as_text(value)}" for key, value in settings.items())
    return markup.chips(t if len(t) <= MAX_CHIP else f"{t[:MAX_CHIP]} ..." for t in texts)


def _active(service: Service) -> str:
    """Show the runs that are under way or wait."""
    page = service.search(states=("running", "queued"), limit=4)
    if not page.entries:
        return ""
    rows = "".join(
        f'<li><a href="{markup.run_link(entry.root.name)}">{escape(entry.prompt)}</a>'
        f"{markup.badge(entry.state)}</li>"
        for entry in page.entries
    )
    return f'<div class="active-runs"><h3>In progress ({page.total})</h3><ul>{rows}</ul></div>'
