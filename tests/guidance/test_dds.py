"""Claims about the delta denoising score beside those that all rules share."""

from dataclasses import replace

import pytest
import torch
from analytic import GaussianPrior
from guided_views import REFERENCE, as_render, cameras_at
from rules import MEANS, begin, gaussian, reference_of

from dreamlab.guidance.comparing import Comparing
from dreamlab.guidance.dds import DDS, Config
from dreamlab.guidance.prompts import PromptConfig, Prompts

KINDS = ["epsilon", "v_prediction", "sample", "flow"]
PLAIN = PromptConfig(view="none")
CAMERAS = cameras_at([10.0, -120.0])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(prior: GaussianPrior, reference_prompt: str, **options) -> DDS:
    config = Config(reference_prompt=reference_prompt, **options)
    rule = DDS(config, prior, Prompts.encode(prior, "cat", "", PLAIN))
    begin(rule, prior, "", PLAIN)
    return rule


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_zero_where_prompts_and_pictures_agree(kind: str):
    render = as_render(torch.rand(2, 8, 8, 3, generator=seeded()).requires_grad_(True))
    same = replace(render, reference=as_render(render.rgb.detach()))
    unchanged = make(gaussian(kind), "cat")(same, CAMERAS, 0.0, seeded())
    (gradient,) = torch.autograd.grad(unchanged.loss, render.rgb)
    assert not gradient.any()
    changed = make(gaussian(kind), "ugly")(same, CAMERAS, 0.0, seeded())
    (gradient,) = torch.autograd.grad(changed.loss, render.rgb)
    assert gradient.abs().min() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_it_stops_where_the_reference_is_moved_by_what_the_prompts_differ_in(kind: str):
    """For each picture and each noise, not in the mean alone."""
    noise = torch.randn(2, 3, 8, 8, generator=seeded(1))
    t = torch.tensor([0.2, 0.8])
    for scale in (1.0, 6.0):
        rule = make(gaussian(kind), "ugly", guidance_scale=scale)
        difference = torch.tensor(MEANS["cat"]) - torch.tensor(MEANS["ugly"])
        still = 2 * torch.tensor(REFERENCE) - 1 + scale * difference
        z = still[:, None, None].expand(2, 3, 8, 8)
        conditionings = rule.prompts.for_views(CAMERAS)
        before = reference_of(rule, z, CAMERAS)

        def gradient(away: float, at=z, judged=rule, words=conditionings, ref=before):
            return judged.judge(at + away, t, noise, words, 0.0, None, ref).gradient

        assert gradient(0.0).abs().max() < 1e-4
        assert (gradient(0.1) > 1e-3).all() and (gradient(-0.1) < -1e-3).all()


class NoisyEncoder(GaussianPrior):
    def encode_image(self, images: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        clean = super().encode_image(images, generator)
        return clean + torch.randn(clean.shape, generator=generator)


def test_both_pictures_are_encoded_with_the_same_noise():
    exact = gaussian()
    prior = NoisyEncoder(mean=exact.mean, std=exact.std)
    picture = torch.rand(2, 8, 8, 3, generator=seeded()).requires_grad_(True)
    same = replace(as_render(picture), reference=as_render(picture.detach()))
    assert make(prior, "cat")(same, CAMERAS, 0.0, seeded()).metrics["gradient_rms"] == 0
    encoded = [rows for name, rows in prior.calls if name == "encode_image"]
    assert encoded == [2, 2]


def test_it_says_what_it_needs():
    rule = make(gaussian(), "ugly")
    assert isinstance(rule, Comparing) and rule.reference_prompt == "ugly"
    alone = replace(as_render(torch.rand(2, 8, 8, 3)), reference=None)
    with pytest.raises(ValueError, match="reference"):
        rule(alone, CAMERAS, 0.0, seeded())
