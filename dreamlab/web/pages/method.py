"""The form of a recipe's parts: for each stage its representation and its guidance, as choices.

What does not fit is grey, and said why below. A choice is told to the server as `select` with the
keys that it sets and those of the recipe itself, so that going back leaves nothing changed.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dreamlab.web.views import OptionView, PartView

SCRIPT = """
element.addEventListener('change', (event) => {
  const field = event.target.closest('[data-settings]');
  if (field) trigger('select', {
    settings: JSON.parse(field.dataset.settings), own: JSON.parse(field.dataset.own)
  });
});
"""
LISTING = '<div class="loading">Trying what fits together ...</div>'
DECIDING = (".name", ".start_from", ".reference_prompt")
"""How keys end on which it depends what fits."""
WORDS = {"representation": "Representation", "guidance": "Guidance"}


def form(parts: Sequence[PartView]) -> str:
    """Show the parts, stage by stage."""
    blocks = ""
    for stage in dict.fromkeys(part.stage for part in parts):
        rows = "".join(_row(part) for part in parts if part.stage == stage)
        blocks += f'<section class="method"><h3>Stage: {escape(stage)}</h3>{rows}</section>'
    return blocks


def _row(part: PartView) -> str:
    choices = "".join(_choice(part, option) for option in part.options)
    refused = [option for option in part.options if option.why_not]
    reasons = "".join(
        f"<li><b>{escape(option.name)}</b> {escape(option.why_not)}</li>" for option in refused
    )
    number = len(refused)
    why = f"Why {number} {'is' if number == 1 else 'are'} grey"
    below = f'<details class="why-not"><summary>{why}</summary><ul>{reasons}</ul></details>'
    return (
        f'<fieldset class="choices"><legend>{WORDS[part.part]}</legend>{choices}</fieldset>'
        f"{below if refused else ''}"
    )


def _choice(part: PartView, option: OptionView) -> str:
    is_chosen = option.name == part.chosen
    is_off = bool(option.why_not) and not is_chosen
    marks = (" checked" if is_chosen else "") + (" disabled" if is_off else "")
    title = f' title="{escape(option.why_not)}"' if option.why_not else ""
    stage, name = escape(part.stage), escape(option.name)
    settings, own = (escape(json.dumps(keys)) for keys in (option.settings, part.own))
    is_own = option.name in part.own.values()
    note = " <small>recipe</small>" if is_own else ""
    return (
        f'<label class="choice{" is-off" if is_off else ""}"{title}>'
        f'<input type="radio" name="{stage}-{part.part}" value="{name}" '
        f'data-settings="{settings}" data-own="{own}"{marks}>{name}{note}</label>'
    )


def concerned(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the changed settings that decide what fits; trying takes a second or two."""
    return {
        key: value
        for key, value in kept.items()
        if key.endswith(DECIDING) or ".losses." in key or ".representation." in key
    }


def taken(
    kept: Mapping[str, Any], settings: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, Any]:
    """Return the changed settings after a choice.

    Args:
        kept: changed settings before; those of a component that is replaced are left out.
        settings: that the choice sets.
        own: what the recipe itself has for the same keys; what is the same is no change.
    """
    prefixes = tuple(key.removesuffix("name") for key in own)
    fresh = {key: value for key, value in kept.items() if not key.startswith(prefixes)}
    return fresh | {key: name for key, name in settings.items() if own.get(key) != name}
