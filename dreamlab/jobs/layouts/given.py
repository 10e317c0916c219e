"""A layout as settings give it: written out, the path of a file, or left to be read from words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamlab.core.config import build
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.jobs.layouts.files import SUFFIXES, load_layout
from dreamlab.jobs.layouts.words import layout_if_several, layout_of

FROM_PROMPT = "prompt"
"""Stands for the layout that the words of the prompt say."""
IF_SEVERAL = "auto"
"""Stands for the same if they tell of several things, and for no layout otherwise."""
FROM_WORDS = (FROM_PROMPT, IF_SEVERAL)
"""Settings by which every prompt has a layout of its own."""


def read_layout(text: str, prompt: str) -> Layout:
    """Return the layout of a file, if `text` ends like one, or that of a prompt.

    Raises:
        InputError: the file or the prompt cannot be read.
    """
    return load_layout(Path(text)) if text.lower().endswith(SUFFIXES) else layout_of(prompt)


def given_layout(value: Any, prompt: str) -> Layout | None:
    """Return the layout that the setting `layout` means.

    Args:
        value: a mapping, the path of a file, `prompt`, `auto`, or None for no layout.
        prompt: of the run.

    Raises:
        InputError: it is something else, or something in it is wrong.
    """
    if value is None:
        return None
    if value == IF_SEVERAL:
        return layout_if_several(prompt)
    if isinstance(value, Mapping):
        return build(Layout, value, "layout")
    if isinstance(value, str) and (value == FROM_PROMPT or value.lower().endswith(SUFFIXES)):
        return read_layout(value, prompt)
    raise InputError(
        f"layout is {value!r}.",
        f"give a path that ends in {', '.join(SUFFIXES)}, {FROM_PROMPT!r} to read it from the "
        f"prompt, {IF_SEVERAL!r} to do so if that tells of several things, or write it out: "
        "{boxes: [...]}.",
    )
