"""Files of layouts: our own, and those of SemanticSDS and LucidDreaming, told apart by content.

A text that begins with a bracket is a list of LucidDreaming; everything else is YAML or JSON, that
of SemanticSDS if it has its key `scene_models`, or `subinit` below `init`. All of them are data,
and nothing in them is run.
"""

from pathlib import Path

from dreamlab.core.config import build, parse_literal_yaml, parse_yaml, read_text
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.jobs.layouts.lucid_dreaming import is_lucid_dreaming, read_lucid_dreaming
from dreamlab.jobs.layouts.semantic_sds import (
    is_config,
    is_semantic_sds,
    read_config,
    read_semantic_sds,
)

SUFFIXES = (".yaml", ".yml", ".json", ".txt")
"""Of files that hold a layout."""


def load_layout(path: Path) -> Layout:
    """Read a layout from a file.

    Raises:
        InputError: it cannot be read, or something in it is wrong.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path} is no file of a layout.", f"give one that ends in {', '.join(SUFFIXES)}."
        )
    return parse_layout(read_text(path), str(path))


def parse_layout(text: str, where: str) -> Layout:
    """Read a layout from text of any known kind; `where` names it in messages.

    Raises:
        InputError: it is none, or something in it is wrong.
    """
    if is_lucid_dreaming(text):
        return read_lucid_dreaming(text, where)
    if is_config(text):
        return read_config(parse_literal_yaml(text, where), where)
    content = parse_yaml(text, where)
    if is_semantic_sds(content):
        return read_semantic_sds(content, where)
    return build(Layout, content, "layout")
