"""Text: embedded once, kept on disk, cut with a warning, and the encoder freed afterwards."""

import logging
from pathlib import Path

import pytest
import torch
from analytic import GaussianPrior
from tiny_models import TOKENS, WIDTH, save_tiny_if

from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.text_cache import cache_key, encode_cached
from dreamlab.priors.text_encoder import TextEncoder, file_digest


def test_embeddings_are_those_of_the_pipeline(sd1_folder: Path):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(sd1_folder, safety_checker=None)
    theirs, empty = pipeline.encode_prompt("a cat", "cpu", 1, True, negative_prompt="")
    ours = load_prior(PriorConfig(model=str(sd1_folder)), "cpu").encode_text(["a cat", ""])
    assert ours.shape == (2, TOKENS, WIDTH)
    torch.testing.assert_close(ours, torch.cat([theirs, empty]))


def test_an_overlong_prompt_is_cut_with_a_warning_that_quotes_what_is_lost(
    sd1_folder: Path, caplog: pytest.LogCaptureFixture
):
    text = TextEncoder(sd1_folder, torch.device("cpu"))
    reads = TOKENS - 2
    with caplog.at_level(logging.WARNING):
        exact = text.encode(["x" * reads]).tokens
        assert not caplog.records
        long = ["x" * reads + " lost"]
        text.warn_if_cut(long)
        cut = text.encode(long).tokens
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "'lost'" in caplog.text and str(reads) in caplog.text
    assert torch.equal(exact[:, :reads], cut[:, :reads])


def test_a_cached_prompt_needs_no_text_encoder_and_still_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    prompts = ["a cat", "", "y" * 100]
    config = PriorConfig(model=str(save_tiny_if(tmp_path / "if")))
    first = encode_cached(load_prior(config, "cpu"), prompts, tmp_path)

    def refuse(self):
        raise AssertionError("the text encoder was loaded")

    monkeypatch.setattr(TextEncoder, "_load", refuse)
    caplog.clear()
    second = encode_cached(load_prior(config, "cpu"), prompts, tmp_path)
    assert torch.equal(first, second)
    assert "ignored" in caplog.text


def test_only_missing_prompts_are_encoded_and_each_once(tmp_path: Path):
    prior = GaussianPrior(mean=lambda prompt: [len(prompt) / 10.0, 0.0, 0.0])
    encode_cached(prior, ["a", "bb"], tmp_path)
    prior.calls.clear()
    embeddings = encode_cached(prior, ["bb", "ccc", "a", "ccc"], tmp_path)
    assert prior.calls == [("encode_text", 1)]
    torch.testing.assert_close(embeddings[:, 0, 0], torch.tensor([0.2, 0.3, 0.1, 0.3]))


def test_another_model_or_prompt_has_another_key(tmp_path: Path):
    assert len({cache_key("m", "p"), cache_key("m", "q"), cache_key("n", "p")}) == 3
    red = GaussianPrior(mean=lambda _: [1.0, 0.0, 0.0], identity="red")
    blue = GaussianPrior(mean=lambda _: [0.0, 0.0, 1.0], identity="blue")
    encode_cached(red, ["x"], tmp_path)
    assert encode_cached(blue, ["x"], tmp_path)[0, 0].tolist() == [0.0, 0.0, 1.0]


def test_a_damaged_cache_file_is_made_again(tmp_path: Path):
    prior = GaussianPrior(mean=lambda _: [0.5, 0.0, 0.0])
    whole = encode_cached(prior, ["x"], tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:20])
    assert torch.equal(encode_cached(prior, ["x"], tmp_path), whole)
    prior.calls.clear()
    encode_cached(prior, ["x"], tmp_path)
    assert prior.calls == []


def test_a_cache_that_cannot_be_written_costs_a_warning_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("")
    prior = GaussianPrior(mean=lambda _: [0.5, 0.0, 0.0])
    embedding = encode_cached(prior, ["x"], tmp_path / "file" / "below")
    assert embedding.shape == (1, 1, 3)
    assert "cannot be kept" in caplog.text


def test_releasing_frees_the_encoder_and_a_later_text_loads_it_again(sd1_folder: Path):
    text = TextEncoder(sd1_folder, torch.device("cpu"))
    before = text.encode(["a cat"]).tokens
    text.release()
    assert text._model is None
    assert torch.equal(text.encode(["a cat"]).tokens, before)


def test_the_fingerprint_changes_with_the_weights(sd1_folder: Path, sd2_folder: Path, tmp_path):
    import shutil

    device = torch.device("cpu")
    copy = tmp_path / "copy"
    shutil.copytree(sd1_folder, copy)
    assert TextEncoder(copy, device).fingerprint == TextEncoder(sd1_folder, device).fingerprint
    weights = copy / "text_encoder" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert TextEncoder(copy, device).fingerprint != TextEncoder(sd1_folder, device).fingerprint


def test_a_large_file_is_sampled_from_end_to_end(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("dreamlab.priors.text_encoder.WHOLE_FILE_BYTES", 10)
    monkeypatch.setattr("dreamlab.priors.text_encoder.SAMPLE_BYTES", 4)
    path = tmp_path / "weights"
    digests = set()
    for changed in (None, 0, 999):
        content = bytearray(1000)
        if changed is not None:
            content[changed] = 1
        path.write_bytes(content)
        digests.add(file_digest(path))
    assert len(digests) == 3
