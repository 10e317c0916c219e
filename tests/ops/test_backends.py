"""Choosing an implementation: what auto takes, and what a wrong wish answers."""

import logging

import pytest
import torch

from dreamlab.core.errors import InputError, MissingError
from dreamlab.ops import backends
from dreamlab.ops.backends import OFFERED, ONE_FORM, choose, explain, resolve


@pytest.mark.parametrize("op", OFFERED)
def test_auto_takes_warp_on_a_cpu_and_a_wish_is_granted(op):
    fast = "warp" if "warp" in OFFERED[op] else "reference"
    assert resolve(op, "auto", "cpu") == fast
    assert resolve(op, "reference", torch.device("cpu")) == "reference"
    assert choose(op, fast, "cpu").reason == "asked for"


def test_what_has_no_kernel_of_ours_falls_back_on_nothing(caplog):
    assert choose("texture", "auto", "cpu").name == "reference" and not caplog.records
    assert [op for op, offered in OFFERED.items() if "warp" not in offered] == ["texture"]


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
    assert explained.keys() == OFFERED.keys() | ONE_FORM.keys()
    for op, offered in OFFERED.items():
        chosen = resolve(op, "auto", "cpu")
        assert explained[op].startswith(f"{chosen}: ")
        for other in {*offered} - {chosen}:
            assert other in explained[op], "what else there is, or why it is not"
    assert "on request: reference; nvdiffrast runs on CUDA only" in explained["antialias"]
