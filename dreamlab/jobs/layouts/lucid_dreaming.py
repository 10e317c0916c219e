"""Layouts as LucidDreaming has them: a list of prompts and boxes, written as Python writes it.

    [('a cat', [x, y, z, w, h, d]), ('a table', [x, y, z, w, h, d])]

(x, y, z) is the lowest corner and (w, h, d) the edges along x, y, z, all in parts of a cube of 512;
boxes may reach out of it. Its axes are ours: x towards who looks at the front, y to their right, z
up. Only literals are read, and nothing is run. The name of the file, which is the prompt of the
scene there, is not read.

Source: LucidDreaming (Wang et al. 2023); format seen in `objects/multi_gen` and `process_gpt_file`
of github.com/EricWang12/LucidDreaming at 0811902.
"""

import ast
import warnings
from typing import Any

from dreamlab.core.config import MAX_CHARACTERS
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.jobs.layouts.blocks import arrange, block_at, read_numbers

FORM = "write it as [('a cat', [x, y, z, w, h, d]), ...], prompts in quotes."
UNREADABLE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
"""What Python raises on text that is no literal, or too deep."""


def is_lucid_dreaming(text: str) -> bool:
    """Whether a text is a list, as no other kind of layout is."""
    return text.lstrip().startswith("[")


def read_lucid_dreaming(text: str, where: str) -> Layout:
    """Read a list of prompts and boxes; `where` names it in messages.

    Raises:
        InputError: it is no such list, or a number or a prompt in it is refused.
    """
    items = _literal(text, where)
    if not isinstance(items, list):
        raise InputError(f"{where} holds no list of boxes.", FORM)
    blocks = []
    for index, item in enumerate(items):
        place = f"{where}[{index}]"
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise InputError(f"{place} is no pair of a prompt and a box.", FORM)
        numbers = read_numbers(item[1], 6, place)
        blocks.append(block_at(item[0], numbers[:3], numbers[3:], place))
    return arrange(blocks, None, where)


def _literal(text: str, where: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"{where} has {len(text)} characters, at most {MAX_CHARACTERS} are read.",
            "shorten it.",
        )
    try:
        with warnings.catch_warnings():  # of escapes in strings that mean nothing
            warnings.simplefilter("ignore")
            return ast.literal_eval(text.strip())
    except UNREADABLE as error:
        line = getattr(error, "lineno", None)
        at = f" (line {line})" if line else ""
        raise InputError(f"{where} is no list of literals{at}.", FORM) from None
