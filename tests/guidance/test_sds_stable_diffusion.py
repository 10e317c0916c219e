"""SDS with the real classes: the gradient is the formula on the network's own outputs."""

from pathlib import Path

import pytest
import torch
from guided_views import as_render, cameras_at
from tiny_models import IMAGE_SIZE

from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.sds import SDS, Config
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.stable_diffusion import StableDiffusionPrior

CAMERAS = cameras_at([0, 100, -170], [0, 10, 70])


@pytest.fixture(scope="module")
def prior(sd_folder: Path) -> StableDiffusionPrior:
    loaded = load_prior(PriorConfig(model=str(sd_folder)), "cpu")
    assert isinstance(loaded, StableDiffusionPrior)
    return loaded


def rule(prior: StableDiffusionPrior, view: str, **options) -> SDS:
    config = PromptConfig(view=view)  # type: ignore[arg-type]
    return SDS(
        Config(guidance_scale=10.0, **options), prior, Prompts.encode(prior, "a", "b", config)
    )


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_gradient_equals_the_formula_on_raw_unet_outputs(prior: StableDiffusionPrior):
    sds = rule(prior, "words")
    z, noise, t = random(3, 4, 8, 8), random(3, 4, 8, 8, seed=1), torch.tensor([0.1, 0.5, 0.9])
    conditionings = sds.prompts.for_views(CAMERAS)
    found = sds.judge(z, t, noise, conditionings, 0.0).gradient
    k = torch.tensor([100, 500, 900])
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    abar = (1 - betas).cumprod(0)[k][:, None, None, None]
    noisy = abar.sqrt() * z + (1 - abar).sqrt() * noise
    with torch.no_grad():
        v_y, v_0 = (
            prior.unet(noisy, k, encoder_hidden_states=c[:, 0]).sample
            for c in (conditionings.positive, conditionings.negative)
        )
    v = v_0 + 10.0 * (v_y - v_0)
    true_v = abar.sqrt() * noise - (1 - abar).sqrt() * z
    expected = (1 - abar) * abar.sqrt() * (v - true_v)  # native residual of a velocity model
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("view", ["words", "interpolate", "perp_neg"])
def test_a_views_gradient_does_not_depend_on_its_company(prior: StableDiffusionPrior, view: str):
    sds = rule(prior, view)
    z, noise, t = random(3, 4, 8, 8), random(3, 4, 8, 8, seed=1), torch.tensor([0.1, 0.5, 0.9])
    together = sds.judge(z, t, noise, sds.prompts.for_views(CAMERAS), 0.0).gradient
    for i in range(3):
        one = slice(i, i + 1)
        views = sds.prompts.for_views(CAMERAS[one])
        alone = sds.judge(z[one], t[one], noise[one], views, 0.0).gradient
        torch.testing.assert_close(together[one], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"latent_weight": 0.0, "image_weight": 1.0}])
def test_gradient_reaches_every_pixel_and_the_decoder_rests_unless_needed(
    prior: StableDiffusionPrior, monkeypatch: pytest.MonkeyPatch, options: dict
):
    decoded: list[int] = []
    honest = prior.vae.decode

    def decode(latents, *arguments, **keywords):
        decoded.append(len(latents))
        return honest(latents, *arguments, **keywords)

    monkeypatch.setattr(prior.vae, "decode", decode)
    rgb = torch.rand(3, IMAGE_SIZE, IMAGE_SIZE, 3, generator=torch.Generator().manual_seed(0))
    rgb.requires_grad_(True)
    output = rule(prior, "perp_neg", **options)(
        as_render(rgb), CAMERAS, 0.0, torch.Generator().manual_seed(0)
    )
    output.loss.backward()
    assert rgb.grad is not None and rgb.grad.isfinite().all() and (rgb.grad != 0).all()
    assert output.metrics["nonfinite_fraction"] == 0.0
    assert decoded == ([3] if options else [])
