"""Choosing an implementation: what auto takes, and what a wrong wish answers."""

import logging

import pytest
import torch

from dreamlab.core.errors import InputError, MissingError
from dreamlab.ops import backends
from dreamlab.ops.backends import OFFERED, choose, explain, resolve


@pytest.mark.parametrize("op", OFFERED)
def test_auto_takes_warp_on_a_cpu_and_a_wish_is_granted(op):
    assert resolve(op, "auto", "cpu") == "warp"
    assert resolve(op, "reference", torch.device("cpu")) == "reference"
    assert choose(op, "warp", "cpu").reason == "asked for"


def test_auto_falls_back_to_the_reference_and_says_so_once(caplog):
    backends._log_fallback.cache_clear()
    with caplog.at_level(logging.WARNING, logger=backends.__name__):
        assert resolve("march", "auto", "meta") == "reference"
        assert resolve("march", "auto", "meta") == "reference"
    assert len(caplog.records) == 1
    assert "march" in caplog.text and "meta" in caplog.text


def test_what_cannot_run_is_named_with_a_fix():
    with pytest.raises(MissingError, match="CUDA only"):
        resolve("hash_encode", "tinycudann", "cpu")
    with pytest.raises(MissingError, match="Warp has no kernels"):
        resolve("composite", "warp", "meta")
    with pytest.raises(InputError, match="it has reference, warp"):
        resolve("march", "tinycudann", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_warp_on_cuda_is_refused_without_a_driver():
    with pytest.raises(MissingError, match="driver"):
        resolve("march", "warp", "cuda")


def test_every_choice_is_explained():
    explained = explain("cpu")
    assert explained.keys() == OFFERED.keys()
    assert all(text.startswith("warp: ") for text in explained.values())
