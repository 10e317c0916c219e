"""The form of a recipe's parts: the prior, and each stage's representation and guidance.

What does not fit is grey, and said why below, with what would make it fit. A choice is told to the
server as `select` with the keys that it sets, those of the recipe itself and those that the choice
before it had set, so that going back leaves nothing changed.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dreamlab.jobs.choices import Option, Part
from dreamlab.web.pages import markup

SCRIPT = """
element.addEventListener('change', (event) => {
  const field = event.target.closest('[data-settings]');
  if (!field) return;
  const row = field.closest('fieldset');
  const before = row.taken ?? row.querySelector('input[checked]')?.dataset.settings ?? '{}';
  row.taken = field.dataset.settings;
  trigger('select', {
    settings: JSON.parse(field.dataset.settings), own: JSON.parse(field.dataset.own),
    before: JSON.parse(before)
  });
});
"""
LISTING = '<div class="loading">Trying what fits together ...</div>'
DECIDING = ("prior.", "stages.", "layout")
"""How keys begin on which it depends what fits."""
WORDS = {"prior": "Prior", "representation": "Representation", "guidance": "Guidance"}


def form(parts: Sequence[Part]) -> str:
    """Show the parts, stage by stage; before them what is not of a stage."""
    blocks = ""
    for stage in dict.fromkeys(part.stage for part in parts):
        rows = "".join(_row(part) for part in parts if part.stage == stage)
        heading = f"Stage: {escape(stage)}" if stage else "All stages"
        blocks += f'<section class="method"><h3>{heading}</h3>{rows}</section>'
    return blocks


def _row(part: Part) -> str:
    choices = "".join(_choice(part, option) for option in part.options)
    chosen = next((each for each in part.options if each.name == part.chosen), None)
    problem = ""
    if chosen is not None and chosen.why_not:
        problem = markup.notice("bad", chosen.why_not, chosen.fix)
    return (
        f'<fieldset class="choices"><legend>{WORDS[part.part]}</legend>{choices}</fieldset>'
        f"{problem}{_reasons(part)}"
    )


def _reasons(part: Part) -> str:
    """Say why what is grey is; what is grey for the same reason stands together."""
    names: dict[tuple[str, str], list[str]] = {}
    for option in part.options:
        if option.why_not and option.name != part.chosen:
            names.setdefault((option.why_not, option.fix), []).append(option.name)
    if not names:
        return ""
    lines = "".join(_reason(refused, *said) for said, refused in names.items())
    number = sum(map(len, names.values()))
    heading = f"Why {number} {'is' if number == 1 else 'are'} grey"
    return f'<details class="why-not"><summary>{heading}</summary><ul>{lines}</ul></details>'


def _reason(names: Sequence[str], why: str, fix: str) -> str:
    about = f"{escape(why)} <em>{escape(fix[:1].upper() + fix[1:])}</em>"
    return f"<li><b>{escape(', '.join(names))}</b> {about}</li>"


def _choice(part: Part, option: Option) -> str:
    is_chosen = option.name == part.chosen
    is_off = bool(option.why_not) and not is_chosen
    marks = (" checked" if is_chosen else "") + (" disabled" if is_off else "")
    about = option.why_not or option.about
    title = f' title="{escape(about)}"' if about else ""
    stage, name = escape(part.stage), escape(option.name)
    settings, own = (escape(json.dumps(keys)) for keys in (option.settings, part.own))
    notes = ["recipe"] * (option.name in part.own.values()) + ["download"] * (not option.is_here)
    note = "".join(f" <small>{text}</small>" for text in notes)
    return (
        f'<label class="choice{" is-off" if is_off else ""}"{title}>'
        f'<input type="radio" name="{stage}-{part.part}" value="{name}" '
        f'data-settings="{settings}" data-own="{own}"{marks}>{name}{note}</label>'
    )


def concerned(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the changed settings that decide what fits; trying takes a second or two."""
    return {key: value for key, value in kept.items() if key.startswith(DECIDING)}


def taken(
    kept: Mapping[str, Any],
    settings: Mapping[str, Any],
    own: Mapping[str, Any],
    before: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the changed settings after a choice.

    Args:
        kept: changed settings before; those of a component that is replaced are left out.
        settings: that the choice sets.
        own: what the recipe itself has for the same keys; what is the same is no change.
        before: settings that the choice before it has set; they go with it.
    """
    prefixes = tuple(key.removesuffix("name") for key in own)
    fresh = {
        key: value
        for key, value in kept.items()
        if not key.startswith(prefixes) and not (key in before and before[key] == value)
    }
    same = {key for key, value in settings.items() if key in own and own[key] == value}
    return fresh | {key: value for key, value in settings.items() if key not in same}
