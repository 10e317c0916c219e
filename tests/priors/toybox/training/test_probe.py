"""The probe tells a network that listens to a word from one that does not."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from dreamlab.priors.toybox.model import build_scheduler
from dreamlab.priors.toybox.tokenizer import build_tokenizer
from dreamlab.priors.toybox.training.probe import Probe, make_probe, measure
from dreamlab.priors.toybox.world.captions import vocabulary


class Words(nn.Module):
    """Hands the token ids on as the embedding."""

    def forward(self, tokens: Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=tokens)


class Oracle(nn.Module):
    """Predicts the velocity, but is wrong by one where it notices another caption."""

    def __init__(self, probe: Probe, noticed: tuple[str, ...]) -> None:
        super().__init__()
        self.probe, self.noticed = probe, noticed

    def forward(self, noisy: Tensor, step: Tensor, tokens: Tensor) -> SimpleNamespace:
        alpha_bar = build_scheduler().alphas_cumprod[step][:, None, None, None]
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        noise = (noisy - alpha * self.probe.latents) / sigma
        wrong = any(torch.equal(tokens, self.probe.tokens[name]) for name in self.noticed)
        return SimpleNamespace(sample=alpha * noise - sigma * self.probe.latents + float(wrong))


@pytest.fixture(scope="module")
def probe() -> Probe:
    tokenizer = build_tokenizer(vocabulary(), 32)
    return make_probe(1, 12, size=16, tokenizer=tokenizer, encode_images=lambda images: images)


def test_a_word_that_is_heard_has_a_gap_and_others_have_none(probe: Probe) -> None:
    oracle = Oracle(probe, ("object", "view"))
    gaps = measure(oracle, Words(), probe, build_scheduler().alphas_cumprod)
    for time in (0.6, 0.85):
        assert gaps[f"loss@{time}"] == pytest.approx(0, abs=1e-6)
        assert gaps[f"object@{time}"] == pytest.approx(1, abs=1e-3)
        assert gaps[f"view@{time}"] == pytest.approx(1, abs=1e-3)
        assert gaps[f"color@{time}"] == pytest.approx(0, abs=1e-6)


def test_every_wrong_caption_differs_from_the_right_one_in_every_row(probe: Probe) -> None:
    for name in ("object", "color", "view"):
        assert (probe.tokens[name] != probe.tokens["right"]).any(dim=1).all()
