"""VSD with the real classes: one network gives both scores, and only its adapters learn."""

from pathlib import Path

import pytest
import torch
from guided_views import as_render, cameras_at
from tiny_models import IMAGE_SIZE, save_tiny_flux, save_tiny_sd3

from dreamlab.guidance.guided import guided_noise
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.vsd import VSD, Config
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.learned import LoraConfig
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.stable_diffusion import StableDiffusionPrior

CAMERAS = cameras_at([0, 100, -170], [0, 10, 70])


@pytest.fixture(scope="module")
def prior(sd_folder: Path) -> StableDiffusionPrior:
    loaded = load_prior(PriorConfig(model=str(sd_folder)), "cpu")
    assert isinstance(loaded, StableDiffusionPrior)
    return loaded


def rule(prior: DiffusionPrior, **options) -> VSD:
    viewed, plain = (
        Prompts.encode(prior, "a", "b", PromptConfig(view=view))  # type: ignore[arg-type]
        for view in ("words", "none")
    )
    vsd = VSD(Config(**options), prior, viewed)
    vsd.begin(prior, plain, torch.Generator().manual_seed(0))
    return vsd


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_at_first_the_gradient_is_between_the_guided_and_the_plain_prediction(
    prior: StableDiffusionPrior,
):
    vsd = rule(prior)
    z, noise, t = random(3, 4, 8, 8), random(3, 4, 8, 8, seed=1), torch.tensor([0.1, 0.5, 0.9])
    alpha, sigma = prior.alpha_sigma(t)
    noisy = alpha * z + sigma * noise
    told = vsd.prompts.for_views(CAMERAS)
    guided = guided_noise(prior, noisy, t, told, scale=7.5)
    plain = prior.encode_text(["a"]).expand(3, -1, -1)
    expected = sigma**2 * (guided - prior.predict(noisy, t, plain).eps)
    found = vsd.judge(z, t, noise, told, 0.0, cameras=CAMERAS)
    torch.testing.assert_close(found.gradient, expected)


def test_learning_lowers_the_error_and_leaves_the_pretrained_score_alone_bit_for_bit(
    prior: StableDiffusionPrior,
):
    vsd = rule(prior, learning_rate=5e-3, lora=LoraConfig(rank=8))
    noisy, t, text = random(3, 4, 8, 8), torch.tensor([0.1, 0.5, 0.9]), random(3, 16, 32)
    bare = prior.predict(noisy, t, text).eps
    z = 0.3 * random(3, 4, 8, 8, seed=7)
    repeat = lambda: torch.Generator().manual_seed(1)  # noqa: E731
    errors = [vsd.learn(z, CAMERAS, 0.0, repeat()) for _ in range(12)]
    assert errors[-1] < 0.97 * errors[0]
    assert torch.equal(prior.predict(noisy, t, text).eps, bare)
    for name, parameter in prior.unet.named_parameters():
        assert parameter.grad is None, name
        assert parameter.requires_grad == ("lora_" in name), name


TRANSFORMERS = {"sd3": save_tiny_sd3, "flux": save_tiny_flux}


@pytest.mark.parametrize("family", ["sd", *TRANSFORMERS])
def test_a_call_reaches_every_pixel_and_goes_on_exactly_from_its_state(
    family: str, sd_folder: Path, tmp_path: Path
):
    """Of U-Nets and transformers alike."""
    folder = sd_folder if family == "sd" else TRANSFORMERS[family](tmp_path / family)
    config = PriorConfig(model=str(folder), image_size=IMAGE_SIZE)
    prior = load_prior(config, "cpu")
    assert isinstance(prior, DiffusionPrior)
    first, second = rule(prior, learning_rate=1e-2), rule(prior, learning_rate=1e-2)
    rgb = torch.rand(3, IMAGE_SIZE, IMAGE_SIZE, 3, generator=torch.Generator().manual_seed(0))

    def gradient(vsd: VSD, seed: int) -> torch.Tensor:
        leaf = rgb.clone().requires_grad_(True)
        generator = torch.Generator().manual_seed(seed)
        return torch.autograd.grad(vsd(as_render(leaf), CAMERAS, 0.5, generator).loss, leaf)[0]

    start = gradient(second, 2)
    for seed in (0, 1):
        assert gradient(first, seed).isfinite().all()
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    found, expected = gradient(second, 2), gradient(first, 2)
    assert torch.equal(found, expected) and (found != 0).all()
    assert not torch.equal(found, start), "what was learned matters"
