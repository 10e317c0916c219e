"""The prior's tokenizer: CLIP's byte-pair encoding, in which every known word is one token.

Byte-pair encoding is trained to completion on the vocabulary: the most frequent pair of
neighbouring symbols is merged until every word is a single symbol. Applying the merges in the order
in which they were found repeats the training, so each known word becomes its one symbol; an unknown
word stops earlier, at pieces that it shares with known ones, and a character outside the words'
alphabet at its bytes. CLIP splits digits from letters first, so "3d" is two tokens.
Source: Sennrich et al. 2016, algorithm 1; Radford et al. 2021 (the `</w>` suffix).
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

END = "</w>"
BEGIN_MARK, END_MARK = "<|startoftext|>", "<|endoftext|>"

Symbols = tuple[str, ...]


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the merges that make every word one symbol, in order; ties go to the smaller pair."""
    spelled: list[Symbols] = [(*word[:-1], word[-1] + END) for word in sorted(set(words))]
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for symbols in spelled for pair in pairwise(symbols))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        joined = (merge(s, best) if best[0] in s else s for s in spelled)
        spelled = [symbols for symbols in joined if len(symbols) > 1]


def merge(symbols: Symbols, pair: tuple[str, str]) -> Symbols:
    """Join every occurrence of `pair` from left to right."""
    joined: list[str] = []
    index = 0
    while index < len(symbols):
        if symbols[index : index + 2] == pair:
            joined.append(symbols[index] + symbols[index + 1])
            index += 2
        else:
            joined.append(symbols[index])
            index += 1
    return tuple(joined)


def byte_symbols() -> list[str]:
    """Return the 256 printable characters that stand for bytes in byte-level encodings."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def build_tokenizer(words: Sequence[str], tokens: int) -> Any:
    """Build a `CLIPTokenizer` whose texts have at most `tokens` tokens.

    Args:
        words: lower-case ASCII words; each becomes one token, as do all single bytes, so that any
            text can be encoded.
        tokens: length to which texts are padded and cut, begin and end marks included.
    """
    from transformers import CLIPTokenizer

    merges = learn_merges(words)
    symbols = byte_symbols()
    names = [*symbols, *(symbol + END for symbol in symbols), *(a + b for a, b in merges)]
    names += [BEGIN_MARK, END_MARK]
    vocabulary = {name: index for index, name in enumerate(dict.fromkeys(names))}
    make: Any = CLIPTokenizer  # its annotation of merges leaves out the pairs that it takes
    return make(vocab=vocabulary, merges=merges, model_max_length=tokens)


def encode(tokenizer: Any, texts: Sequence[str]) -> Any:
    """Return the token ids of texts, padded and cut to the tokenizer's length: [texts, tokens]."""
    return tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
