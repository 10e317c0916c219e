"""Long prompts: split at words, read piece by piece, as long as whatever shares a call."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tiny_models import POOLED, TOKENS, save_tiny_sdxl

from dreamlab.core.layout import Box, Layout
from dreamlab.guidance.base import predict_scores
from dreamlab.guidance.prompts import PromptConfig
from dreamlab.guidance.semantic import SemanticConfig, SemanticPrompts
from dreamlab.priors.conditioning import unpack
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.long_prompts import num_pieces, split_prompt
from dreamlab.priors.text_cache import cache_key, encode_cached
from dreamlab.priors.unet import UNetPrior

READS = TOKENS - 2
"""Characters that a tiny encoder reads at once: every character is a token, spaces are none."""
LONG = "a red chair, made of oak, on a stage here"
PIECES = ["a red chair, made", "of oak, on a stage", "here"]


def short(text: str) -> bool:
    return len(text.replace(" ", "")) <= READS


def load(folder: Path) -> UNetPrior:
    prior = load_prior(PriorConfig(model=str(folder)), "cpu")
    assert isinstance(prior, UNetPrior)
    return prior


@pytest.fixture(scope="module")
def prior(sd1_folder: Path) -> UNetPrior:
    return load(sd1_folder)


def test_pieces_end_at_words_fit_and_could_not_be_longer():
    assert split_prompt(LONG, short) == PIECES
    assert split_prompt("a red chair", short) == ["a red chair"]
    assert split_prompt("", short) == [""]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        lengths = torch.randint(1, READS + 1, (12,), generator=generator).tolist()
        words = [chr(97 + i) * length for i, length in enumerate(lengths)]
        pieces = split_prompt(" ".join(words), short)
        assert " ".join(pieces) == " ".join(words)
        assert all(map(short, pieces))
        for piece, following in pairwise(pieces):
            assert not short(piece + following.split()[0])


def test_a_word_that_is_too_long_is_divided_and_nothing_is_lost():
    pieces = split_prompt("so " + "x" * 40 + " y", short)
    assert all(map(short, pieces))
    assert "".join(pieces).replace(" ", "") == "so" + "x" * 40 + "y"


def test_the_encoder_reads_each_piece_by_itself_and_fills_up_with_empty_ones(prior: UNetPrior):
    text = prior.texts[0]
    own = text.encode([*PIECES, "a cat", ""]).tokens
    long, cat, empty = prior.encode_text([LONG, "a cat", ""])
    torch.testing.assert_close(long, own[:3].flatten(0, 1))
    torch.testing.assert_close(cat, torch.cat([own[3], own[4], own[4]]))
    torch.testing.assert_close(empty, own[4].repeat(3, 1))
    assert prior.encode_text(["a cat"]).shape[1] == TOKENS
    assert prior.encode_text(["a cat"], 3).equal(cat[None])


def test_sdxl_pools_the_first_piece_and_its_empty_prompt_stays_zero(tmp_path: Path):
    prior = load(save_tiny_sdxl(tmp_path / "sdxl"))
    tokens, pooled = unpack(prior.encode_text([LONG, ""]), POOLED)
    first, second = (text.encode(PIECES) for text in prior.texts)
    assert second.pooled is not None
    own = torch.cat([first.tokens, second.tokens], dim=-1).flatten(0, 1)
    torch.testing.assert_close(tokens[0], own)
    torch.testing.assert_close(pooled[0], second.pooled[0])
    assert not tokens[1].any() and not pooled[1].any()
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    eps = prior.predict(noisy, torch.tensor([0.3, 0.7]), prior.encode_text([LONG, ""])).eps
    assert eps.isfinite().all()


def test_the_cache_keeps_embeddings_of_different_lengths_apart(prior: UNetPrior, tmp_path: Path):
    alone = encode_cached(prior, ["a cat", ""], tmp_path)
    together = encode_cached(prior, ["a cat", "", LONG], tmp_path)
    assert alone.shape[1] == TOKENS and together.shape[1] == 3 * TOKENS
    torch.testing.assert_close(encode_cached(prior, ["a cat"], tmp_path)[0], alone[0])
    torch.testing.assert_close(encode_cached(prior, ["", LONG], tmp_path), together[1:])
    torch.testing.assert_close(together, prior.encode_text(["a cat", "", LONG]))
    assert cache_key("m", "p", 1) == cache_key("m", "p") != cache_key("m", "p", 2)


def test_nothing_is_cut_so_nothing_is_warned_of(prior: UNetPrior, caplog):
    prior.warn_if_cut([LONG])
    prior.encode_text([LONG])
    assert not caplog.records and num_pieces(prior, ["a cat", LONG]) == 3


def test_objects_with_prompts_of_other_lengths_share_a_call(prior: UNetPrior):
    boxes = (
        Box(prompt="a cat", center=(0.0, 0.5, 0.0), size=(0.4, 0.4, 0.4)),
        Box(prompt=LONG, center=(0.0, -0.5, 0.0), size=(0.4, 0.4, 0.4)),
    )
    prompts = SemanticPrompts.of_layout(
        prior, Layout(boxes=boxes), "two", "", PromptConfig(view="none"), SemanticConfig()
    )
    parts = [*prompts.objects, prompts]
    assert {part.views.shape[1] for part in parts} == {3 * TOKENS}
    groups = {str(i): part.views[:1, None] for i, part in enumerate(parts)}
    scores = predict_scores(prior, torch.zeros(1, 4, 8, 8), torch.tensor([0.5]), groups)
    assert len(scores) == 3
