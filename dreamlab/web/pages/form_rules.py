"""What the form of the Generate page means: its wish, its check, and the run that it starts from.

A form is six values: prompt, negative prompt, recipe, quality, seed, and the changed settings by
dotted key. Nothing here knows of the page that holds them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from dreamlab.core.config import Plain, load_yaml, parse_yaml
from dreamlab.core.errors import DreamlabError
from dreamlab.core.version import VERSION
from dreamlab.jobs.batch.rows import check_field
from dreamlab.jobs.queue.wish import Wish
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE, QUALITIES, list_recipes
from dreamlab.web.pages import markup
from dreamlab.web.pages.changes import command, differences, flat, split_about
from dreamlab.web.service import Service
from dreamlab.web.views import EstimateView

SAMPLE = "a red mushroom"
"""Stands for the prompt in checks as long as there is none."""
NOTHING_YET = markup.notice("note", "Say what to make.", "For example: a red mushroom.")
MAX_TEXT = 1000
"""Characters of a prompt."""
MAX_SEED = 2**31 - 1
Form = tuple[str, str, str, str, int, Plain]
FIELDS = ("prompt", "negative", "recipe", "quality", "seed", "settings")
"""Names of what a form holds, in an address."""
BLANK: Form = ("", "", DEFAULT_RECIPE, "standard", 0, {})


@dataclass(frozen=True, slots=True)
class Seen:
    """What the page says about a form."""

    verdict: str
    """The estimate, or what is wrong."""
    words: str
    """Words that the model does not know."""
    yaml: str | None
    """All settings; None if they could not be resolved."""
    command: str
    """That makes the same run."""
    is_ready: bool
    """Whether it can be queued."""
    boxes: int | None
    """Number of boxes of its layout; None if the settings could not be resolved."""


def wish_of(
    prompt: str,
    negative: str,
    recipe: str,
    quality: str,
    seed: int | float | None,
    settings: Mapping[str, Any],
) -> Wish:
    """Make a wish of what a form holds."""
    return Wish(
        prompt=prompt.strip(),
        negative_prompt=negative.strip(),
        recipe=recipe,
        quality=quality,
        seed=int(seed or 0),
        settings=dict(settings),
    )


def see(service: Service, *form: Any) -> Seen:
    """Check a form; without a prompt, its settings."""
    wish = wish_of(*form)
    line = command(
        wish.prompt or SAMPLE,
        negative_prompt=wish.negative_prompt,
        recipe=wish.recipe,
        quality=str(wish.quality),
        seed=wish.seed,
        settings=wish.settings,
    )
    try:
        checked = service.check(wish if wish.prompt else replace(wish, prompt=SAMPLE))
    except DreamlabError as error:
        return Seen(markup.problem(error), "", None, line, False, None)
    verdict = takes(checked.estimate) + boxed(checked.objects) if wish.prompt else NOTHING_YET
    words = unknown(checked.unknown_words)
    boxes = len(checked.objects)
    return Seen(verdict, words, checked.config_yaml, line, bool(wish.prompt), boxes)


def takes(estimate: EstimateView | None) -> str:
    """Show what a run will take."""
    if estimate is None:
        return (
            '<div class="estimate"><b>No estimate</b>'
            "<span>Nobody has measured this recipe at this quality yet.</span></div>"
        )
    room = f"{estimate.memory_gb:.1f} GB of memory" if estimate.memory_gb else ""
    return (
        f'<div class="estimate"><b>About {markup.duration(estimate.seconds)}</b>'
        f"<span>{escape(room)}</span><small>{escape(estimate.source)}</small></div>"
    )


def boxed(objects: Sequence[str]) -> str:
    """Say what gets a box of its own; nothing if there are no boxes."""
    if not objects:
        return ""
    about = "The tab Layout moves them, or goes without."
    return markup.notice("note", f"A box for each of: {'; '.join(objects)}.", about)


def unknown(words: Mapping[str, list[str]]) -> str:
    """Point out words that the model does not know, with near ones to take instead."""
    lines = ""
    for word, near in words.items():
        offers = " ".join(
            f'<button type="button" data-word="{escape(word)}" data-near="{escape(other)}">'
            f"{escape(other)}</button>"
            for other in near
        )
        lines += f"<li><b>{escape(word)}</b> {'try ' + offers if near else 'has no near word'}</li>"
    if not lines:
        return ""
    return (
        '<div class="unknown" role="status"><p>The embedded model does not know:</p>'
        f"<ul>{lines}</ul></div>"
    )


def replace_word(text: str, word: str, near: str) -> str:
    """Put another word in the place of one, wherever it stands by itself."""
    return re.sub(rf"\b{re.escape(word)}\b", lambda _: near, text, flags=re.IGNORECASE)


def edited(service: Service, text: str, *form: Any) -> tuple[str, str, int, Plain]:
    """Read an edited config.yaml: prompt, negative prompt, seed, and the settings that differ.

    Raises:
        InputError: it is no YAML, lacks a setting, changes the recipe or the quality, or has a
            value that is refused.
    """
    prompt, _, recipe, quality, _, _ = form
    content = parse_yaml(text, "the edited file")
    about, settings = _compared(service, recipe, quality, content)
    fields = {"prompt": SAMPLE, "negative_prompt": "", "seed": 0} | about
    fields = {key: check_field(key, fields[key], "the edited file") for key in fields}
    service.check(Wish(recipe=recipe, quality=quality, settings=settings, **fields))
    if fields["prompt"] == SAMPLE and not prompt.strip():
        fields["prompt"] = ""
    return fields["prompt"], fields["negative_prompt"], fields["seed"], settings


def started(service: Service, name: str) -> Form:
    """Return the form that a page begins with: empty, or that of the run `name`.

    A run whose settings cannot be read, or were made by another recipe file, gives an empty form.
    """
    try:
        config = load_yaml(service.open(name).config)
        recipe, quality = str(config["recipe"]), str(config["quality"])
        config["version"] = VERSION  # it is repeated by this one
        about, settings = _compared(service, recipe, quality, config)
    except (DreamlabError, KeyError):
        return BLANK
    fields = {"prompt": SAMPLE, "negative_prompt": "", "seed": 0} | about
    return (
        str(fields["prompt"]),
        str(fields["negative_prompt"]),
        recipe,
        quality,
        int(fields["seed"]),
        settings,
    )


def written(text: str) -> Form:
    """Return the form that an address holds (see `generate.REMEMBER`); empty if it is none.

    Of its settings nothing is believed here: the form is checked as if somebody had typed it.
    """
    try:
        form = json.loads(text)
        prompt, negative, recipe, quality, seed, settings = (form[key] for key in FIELDS)
    except (ValueError, KeyError, TypeError, RecursionError):
        return BLANK
    texts = (prompt, negative, recipe, quality)
    is_whole = (
        all(isinstance(each, str) and len(each) <= MAX_TEXT for each in texts)
        and recipe in list_recipes()
        and quality in QUALITIES
        and isinstance(settings, dict)
    )
    if not is_whole:
        return BLANK
    is_seed = isinstance(seed, int) and 0 <= seed <= MAX_SEED
    return prompt, negative, recipe, quality, seed if is_seed else 0, settings


def _compared(service: Service, recipe: str, quality: str, content: Plain) -> tuple[Plain, Plain]:
    """Return the fields and the settings by which a file differs from the recipe as it comes.

    What the recipe says for the prompt of the file is no difference, the boxes that its words say
    among it. Where only one of them has boxes, that is a setting, and what follows from it is none.

    Raises:
        InputError: a setting is missing, or refused.
    """
    prompt, layout = content.get("prompt"), content.get("layout")
    told = prompt if isinstance(prompt, str) and prompt.strip() else SAMPLE
    wish, kept = Wish(told, recipe=recipe, quality=quality), dict[str, Any]()
    base = _settings_of(service, wish)
    if (base["layout"] is None) != (layout is None):
        kept = flat(layout, "layout.") if isinstance(layout, dict) else {"layout": layout}
        base = _settings_of(service, replace(wish, settings=kept))
    about, settings = split_about(differences(base | {"prompt": SAMPLE}, content))
    return about, kept | settings


def _settings_of(service: Service, wish: Wish) -> Plain:
    return parse_yaml(service.check(wish).config_yaml, "the recipe")
