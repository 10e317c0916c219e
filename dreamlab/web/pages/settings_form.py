"""The form of all settings of a recipe: a search box, and a field for each with what it means.

It is one piece of HTML with a little script. Searching happens in the browser. All fields that were
changed since the form was shown are told to the server as `select` with {changes: {key: text}}, the
text as it would stand after KEY= on the command line; an emptied field takes its default again
(null). Since every message has all changes, none is lost where one overtakes another.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dreamlab.web.pages.changes import as_text
from dreamlab.web.views import SettingView

SCRIPT = """
element.addEventListener('change', (event) => {
  const field = event.target.closest('[data-key]');
  if (!field) return;
  const value = field.value.trim();
  const changed = value !== '' && value !== field.dataset.default;
  field.closest('.setting').classList.toggle('is-changed', changed);
  const form = field.closest('.settings');
  form.changes = {...form.changes, [field.dataset.key]: changed ? value : null};
  trigger('select', {changes: form.changes});
});
element.addEventListener('input', (event) => {
  if (!event.target.matches('.setting-search')) return;
  const words = event.target.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  element.querySelectorAll('.setting').forEach((row) => {
    row.hidden = !words.every((word) => row.dataset.words.includes(word));
    shown += !row.hidden;
  });
  element.querySelectorAll('.setting-group').forEach((group) => {
    group.hidden = !group.querySelector('.setting:not([hidden])');
    group.open = words.length > 0;
  });
  element.querySelector('.setting-none').hidden = shown > 0;
});
"""
"""Runs once, when the page has loaded."""


def group_of(key: str) -> str:
    """Name the group that a dotted key is shown in; empty if the page has another place for it."""
    parts = key.split(".")
    if len(parts) < 2 or parts[0] == "layout":
        return ""
    return ".".join(parts[: 2 if parts[0] == "stages" else 1])


def is_part(key: str) -> bool:
    """Tell whether it depends on a dotted key what other settings there are."""
    return key.endswith(".name")


def without_those_of(parts: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out settings of the components that were replaced: to others they mean nothing.

    Args:
        parts: keys of the components that came in their place, see `is_part`.
        settings: dotted key to plain value.
    """
    below = tuple(part.removesuffix("name") for part in parts)
    return {key: v for key, v in settings.items() if key in parts or not key.startswith(below)}


def form(settings: Sequence[SettingView], chosen: Mapping[str, Any], opened: str = "") -> str:
    """Show all settings, those in `chosen` with its values.

    Args:
        settings: of the recipe, in order.
        chosen: dotted key to plain value.
        opened: group that is shown open.
    """
    groups: dict[str, list[str]] = {}
    for setting in settings:
        group = group_of(setting.key)
        if group:
            groups.setdefault(group, []).append(_row(setting, group, chosen))
    blocks = [
        f'<details class="setting-group"{" open" if name == opened else ""}>'
        f"<summary>{escape(_group_name(name))} <span>{len(rows)}</span></summary>"
        f"{''.join(rows)}</details>"
        for name, rows in groups.items()
    ]
    return (
        '<div class="settings"><input class="setting-search" type="search" '
        'aria-label="Search settings" placeholder="Search settings: steps, texture, lr ...">'
        '<p class="setting-none" hidden>No setting has these words.</p>'
        f"{''.join(blocks)}</div>"
    )


def _group_name(group: str) -> str:
    first, _, stage = group.partition(".")
    return f"Stage: {stage}" if stage else first.capitalize()


def _row(setting: SettingView, group: str, chosen: Mapping[str, Any]) -> str:
    key, default = setting.key, as_text(setting.default)
    value = as_text(chosen[key]) if key in chosen else default
    words = f"{key} {setting.doc}".lower()
    mark = " is-changed" if key in chosen else ""
    shown = key.removeprefix(f"{group}.")
    return (
        f'<div class="setting{mark}" data-words="{escape(words)}"><label>'
        f'<span class="setting-key" title="{escape(key)}">{escape(shown)}</span>'
        f"{_field(setting, key, default, value)}</label>"
        f'<p>{escape(setting.doc)} <span class="default">Default: {escape(default)}</span></p>'
        "</div>"
    )


def _field(setting: SettingView, key: str, default: str, value: str) -> str:
    attributes = f'data-key="{escape(key)}" data-default="{escape(default)}"'
    choices = setting.choices or (["true", "false"] if default in ("true", "false") else [])
    if not choices:
        return f'<input type="text" {attributes} value="{escape(value)}" spellcheck="false">'
    options = "".join(
        f"<option{' selected' if str(choice) == value else ''}>{escape(str(choice))}</option>"
        for choice in dict.fromkeys([*map(str, choices), value])
    )
    return f"<select {attributes}>{options}</select>"
