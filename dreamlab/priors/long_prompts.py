"""Prompts that are longer than CLIP reads, in pieces that it can read.

    p = q_1 q_2 ... q_n,      y = [ CLIP(q_1); ...; CLIP(q_n) ]        n T tokens

Every piece q has start and end marks and filling of its own, T tokens in all, and cross-attention
reads the sequence of all pieces; it has no places, so nothing says which piece comes first, and a
word is only understood together with those of its own piece. What pools a text pools the first
piece.

A piece ends at the last comma or space before it would be too long, and a word that is too long by
itself is divided. Prompts that share a call of the denoiser have as many pieces as the longest;
what they lack are empty pieces (marks and filling).

Conventions: a prompt is split as text, so all encoders of a model read the same pieces.
"""

import re
from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from dreamlab.priors.base import Prior

WORD = re.compile(r"[^\s,]*(?:,|\s+|$)")
"""A word with the comma or the space that ends it."""


@runtime_checkable
class ReadsInPieces(Protocol):
    """A prior that cuts no prompt."""

    def num_pieces(self, prompts: Sequence[str]) -> int:
        """Return how many pieces the longest of the prompts needs, at least 1."""
        ...

    def encode_text(
        self, prompts: list[str], pieces: int = 1
    ) -> Float[Tensor, "prompts tokens features"]:
        """Embed prompts, in as many pieces as the longest needs, and at least in `pieces`."""
        ...


def num_pieces(prior: Prior, prompts: Sequence[str]) -> int:
    """Return how many pieces the longest prompt needs; 1 for priors that cut what is too long."""
    return prior.num_pieces(prompts) if isinstance(prior, ReadsInPieces) else 1


def encode_in_pieces(
    prior: Prior, prompts: list[str], pieces: int
) -> Float[Tensor, "prompts tokens features"]:
    """Embed prompts in at least so many pieces; priors that cut what is too long have one."""
    if pieces == 1:
        return prior.encode_text(prompts)
    return cast(ReadsInPieces, prior).encode_text(prompts, pieces)


def split_prompt(prompt: str, fits: Callable[[str], bool]) -> list[str]:
    """Split a prompt into pieces that fit, at least one.

    Joined by spaces they are the prompt, but for words that are divided.

    Args:
        prompt: the text.
        fits: whether a text is short enough; every single character is.
    """
    if fits(prompt):
        return [prompt]
    pieces, piece = [], ""
    for word in WORD.findall(prompt):
        if fits(piece + word):
            piece += word
            continue
        pieces.append(piece)
        *whole, piece = _divide(word, fits)
        pieces += whole
    stripped = (piece.strip() for piece in [*pieces, piece])
    return [piece for piece in stripped if piece]


def _divide(word: str, fits: Callable[[str], bool]) -> list[str]:
    """Divide a word into the longest parts that fit; usually it is one."""
    parts = []
    while not fits(word):
        length = next(n for n in count(1) if not fits(word[: n + 1]))
        parts.append(word[:length])
        word = word[length:]
    return [*parts, word]
