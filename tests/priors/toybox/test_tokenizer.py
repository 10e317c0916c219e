import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamlab.priors.toybox.tokenizer import build_tokenizer, encode, learn_merges, merge
from dreamlab.priors.toybox.world.captions import vocabulary


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(vocabulary(), 32)


def test_every_word_of_letters_is_one_token(tokenizer):
    words = [word for word in vocabulary() if word.isalpha()]
    assert len(words) > 100
    assert [word for word in words if len(tokenizer.tokenize(word)) != 1] == []


def test_words_have_different_tokens(tokenizer):
    words = [word for word in vocabulary() if word.isalpha()]
    assert len({tokenizer.tokenize(word)[0] for word in words}) == len(words)


@given(st.text(max_size=80))
@settings(max_examples=60, deadline=None)
def test_any_text_is_encoded_within_the_vocabulary(text):
    tokenizer = build_tokenizer(("red", "mushroom"), 16)
    ids = encode(tokenizer, [text])
    assert ids.shape == (1, 16)
    assert 0 <= int(ids.min()) and int(ids.max()) < len(tokenizer)


def test_an_unknown_word_leaves_the_known_ones_whole(tokenizer):
    tokens = tokenizer.tokenize("a red zyxqv mushroom")
    assert tokens[:2] == ["a</w>", "red</w>"] and tokens[-1] == "mushroom</w>"
    assert len(tokens) > 4


def test_saving_and_loading_keeps_the_ids(tokenizer, tmp_path):
    from transformers import CLIPTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    texts = ["", "a red mushroom, front view", "ünknown 日本", "x" * 300]
    assert encode(loaded, texts).tolist() == encode(tokenizer, texts).tolist()


def test_merging_goes_from_left_to_right():
    assert merge(("a", "a", "a"), ("a", "a")) == ("aa", "a")


@given(st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=8), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_merges_rebuild_every_word_they_were_learned_from(words):
    merges = learn_merges(words)
    for word in words:
        symbols = (*word[:-1], word[-1] + "</w>")
        for pair in merges:
            symbols = merge(symbols, pair)
        assert symbols == (word + "</w>",)
