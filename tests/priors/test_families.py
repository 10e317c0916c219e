"""Every family on the real classes: what all adapters promise, and each against its pipeline."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import IMAGE_SIZE, POOLED, SAVERS, TOKENS, WIDTH, save_tiny_flux, save_tiny_sd3

from dreamlab.core.errors import InputError
from dreamlab.priors.base import Prior
from dreamlab.priors.conditioning import pack, unpack
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.flux import patch_places, to_latents, to_patches
from dreamlab.priors.folder import family_of
from dreamlab.priors.learned import LoraConfig
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.text_cache import encode_cached
from dreamlab.priors.traits import foreseen, traits_of

FAMILIES = list(SAVERS)
FLOWS = ("sd3", "flux")
PROMPTS = ["a cat", "", "a red chair"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: save(root / family) for family, save in SAVERS.items()}


@pytest.fixture(scope="session")
def priors(folders: dict[str, Path]) -> dict[str, DiffusionPrior]:
    return {family: load(folders[family]) for family in FAMILIES}


def load(folder: Path, **options) -> DiffusionPrior:
    if folder.name.startswith("flux"):
        options = {"image_size": IMAGE_SIZE, **options}
    prior = load_prior(PriorConfig(model=str(folder), **options), "cpu")
    assert isinstance(prior, DiffusionPrior)
    return prior


def pictures(prior: DiffusionPrior, rows: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(rows, prior.image_size, prior.image_size, 3, generator=generator)


def inputs(prior: DiffusionPrior, rows: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    side = prior.latent_size
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(rows, prior.latent_channels, side, side, generator=generator)
    text = prior.encode_text([PROMPTS[i % 3] for i in range(rows)])
    return noisy, torch.linspace(0.1, 0.9, rows), text


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_foreseen_of_a_folder_is_what_is_loaded(priors: dict, folders: dict, family: str):
    size = IMAGE_SIZE if family == "flux" else None
    seen = foreseen(PriorConfig(str(folders[family]), image_size=size))
    assert seen == replace(traits_of(priors[family]), family=family_of(folders[family]))
    if family != "if":
        with pytest.raises(InputError, match="multiple of 4"):
            foreseen(PriorConfig(str(folders[family]), image_size=30))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_tells_its_family_and_loads_frozen(priors: dict, family: str):
    prior = priors[family]
    assert isinstance(prior, Prior)
    assert type(prior).__module__.rpartition(".")[2] == {
        "sd": "stable_diffusion",
        "if": "deepfloyd",
    }.get(family, family)
    assert not prior.network.training
    assert not any(p.requires_grad for p in prior.network.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_of_a_guided_step_reaches_every_pixel(priors: dict, family: str):
    """Encode, noise, predict under guidance, pull to x0: all that a rule does."""
    prior = priors[family]
    images = pictures(prior).requires_grad_(True)
    latents = prior.encode_image(images, torch.Generator().manual_seed(0))
    assert latents.shape == (2, prior.latent_channels, prior.latent_size, prior.latent_size)
    assert latents.dtype == torch.float32
    t = torch.tensor([0.3, 0.7])
    alpha, sigma = prior.alpha_sigma(t)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    noisy = alpha * latents.detach() + sigma * noise
    text = prior.encode_text(["a cat", ""])
    cat, empty = (prior.predict(noisy, t, row.expand(2, -1, -1)).eps for row in text.split(1))
    assert not cat.requires_grad
    assert (cat - empty).abs().max() > 1e-5  # the text is heard
    (latents * (empty + 7.5 * (cat - empty) - noise)).sum().backward()
    assert images.grad is not None and images.grad.isfinite().all()
    assert (images.grad != 0).float().mean() > 0.999


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("t", [0.0, 1e-3, 0.5, 0.999, 1.0])
def test_the_three_forms_agree_at_all_times_the_ends_included(priors: dict, family: str, t: float):
    prior = priors[family]
    noisy, _, text = inputs(prior, 2)
    times = torch.full((2,), t)
    alpha, sigma = prior.alpha_sigma(times)
    prediction = prior.predict(noisy, times, text)
    for form in (prediction.eps, prediction.x0, prediction.v):
        assert form.dtype == torch.float32 and form.isfinite().all()
    size = (alpha * prediction.x0).abs().max()  # large where alpha is tiny
    again = alpha * prediction.x0 + sigma * prediction.eps
    torch.testing.assert_close(again, noisy, atol=1e-5 * float(1 + size), rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_does_not_depend_on_its_company_nor_on_how_rows_are_split(
    priors: dict, folders: dict, family: str
):
    noisy, t, text = inputs(priors[family], 5)
    whole = priors[family].predict(noisy, t, text).eps
    alone = priors[family].predict(noisy[3:4], t[3:4], text[3:4]).eps
    torch.testing.assert_close(whole[3:4], alone, rtol=1e-4, atol=1e-5)
    split = load(folders[family], max_rows=2).predict(noisy, t, text).eps
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_is_differentiable_and_has_the_size_of_pictures(priors: dict, family: str):
    prior = priors[family]
    latents = inputs(prior, 2)[0].requires_grad_(True)
    images = prior.decode(latents)
    assert images.shape == (2, prior.image_size, prior.image_size, 3)
    images.sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0


def test_pixels_are_encoded_and_decoded_without_loss(priors: dict):
    prior = priors["if"]
    images = pictures(prior)
    torch.testing.assert_close(prior.decode(prior.encode_image(images, None)), images)


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_texts_are_those_of_the_encoder_and_need_none(
    folders: dict, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = load(folders[family])
    fresh = first.encode_text(PROMPTS)
    torch.testing.assert_close(encode_cached(first, PROMPTS, tmp_path), fresh)
    first.release_text_encoder()
    assert all(text._model is None for text in first.texts)
    second = load(folders[family])
    monkeypatch.setattr(
        type(second), "embed", lambda *_: pytest.fail("a text encoder was asked again")
    )
    torch.testing.assert_close(encode_cached(second, PROMPTS, tmp_path), fresh)


@pytest.mark.parametrize("family", [*FLOWS, "if"])
def test_an_overlong_prompt_is_cut_with_one_warning(
    priors: dict, family: str, caplog: pytest.LogCaptureFixture
):
    prior = priors[family]
    with caplog.at_level(logging.WARNING):
        prior.encode_text(["a cat"])
        assert not caplog.records
        embedding = prior.encode_text(["x" * 600 + " lost"])
    assert len(caplog.records) == 1 and "lost" in caplog.text
    assert embedding.shape[1:] == prior.encode_text(["a cat"]).shape[1:]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stays_near_single_and_gradients_stay_finite(
    priors: dict, folders: dict, family: str, dtype: str
):
    whole, half = priors[family], load(folders[family], dtype=dtype)
    assert half.network.dtype == getattr(torch, dtype)
    noisy, t, text = inputs(whole, 2)
    reference = whole.predict(noisy, t, text).eps
    error = (half.predict(noisy, t, text).eps - reference).std()
    assert error < (2e-2 if dtype == "float16" else 1e-1) * reference.std()
    images = pictures(half, 1).requires_grad_(True)
    half.encode_image(images, torch.Generator().manual_seed(0)).square().sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.norm() > 0


def test_the_autoencoder_of_sdxl_is_upcast_in_float16_alone(folders: dict, tmp_path: Path):
    def dtype(family: str, **options) -> torch.dtype:
        return load(folders[family], **options).space.vae.dtype  # type: ignore[attr-defined]

    assert dtype("sdxl", dtype="float16") == torch.float32
    assert dtype("sdxl", dtype="bfloat16") == torch.bfloat16
    assert dtype("sd", dtype="float16") == torch.float16
    mended = load(folders["sdxl"]).space.vae  # type: ignore[attr-defined]
    mended.register_to_config(force_upcast=False)
    mended.save_pretrained(tmp_path / "mended")
    assert dtype("sdxl", dtype="float16", vae=str(tmp_path / "mended")) == torch.float16


@pytest.mark.parametrize("family", FAMILIES)
def test_a_learned_score_begins_as_the_pretrained_one_and_can_be_trained(
    folders: dict, family: str
):
    prior = load(folders[family])
    noisy, t, text = inputs(prior, 2)
    before = prior.predict(noisy, t, text).eps
    score = prior.learned_score(LoraConfig(rank=2), torch.Generator().manual_seed(0))
    poses = torch.randn(2, 12, generator=torch.Generator().manual_seed(1))
    predicted = score.predict(noisy, t, text, poses).eps
    torch.testing.assert_close(predicted.detach(), before, rtol=1e-5, atol=1e-6)
    predicted.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in score.parameters())
    assert torch.equal(prior.predict(noisy, t, text).eps, before)


# Each against its pipeline of diffusers


def test_sdxl_texts_are_those_of_its_pipeline(folders: dict, priors: dict):
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(folders["sdxl"], add_watermarker=False)
    tokens, empty, pooled, empty_pooled = pipeline.encode_prompt("a cat", device="cpu")
    ours, our_empty = priors["sdxl"].encode_text(["a cat", ""]).split(1)
    torch.testing.assert_close(unpack(ours, POOLED), (tokens, pooled))
    assert torch.equal(unpack(our_empty, POOLED)[0], empty)
    assert torch.equal(unpack(our_empty, POOLED)[1], empty_pooled)
    assert empty.abs().sum() == 0


def test_sdxl_output_is_that_of_the_unet_with_its_sizes(priors: dict):
    prior = priors["sdxl"]
    noisy, t, text = inputs(prior, 2)
    tokens, pooled = unpack(text, POOLED)
    sizes = torch.tensor([[IMAGE_SIZE, IMAGE_SIZE, 0, 0, IMAGE_SIZE, IMAGE_SIZE]] * 2)
    with torch.no_grad():
        expected = prior.network(
            noisy,
            torch.tensor([100, 900]),
            encoder_hidden_states=tokens,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes},
        ).sample
    torch.testing.assert_close(prior.predict(noisy, t, text).eps, expected)


@pytest.mark.parametrize("t5", [True, False])
def test_sd3_texts_are_those_of_its_pipeline(tmp_path: Path, t5: bool):
    from diffusers import StableDiffusion3Pipeline

    folder = save_tiny_sd3(tmp_path / "sd3", t5=t5)
    absent = {} if t5 else {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, **absent)
    tokens, empty, pooled, empty_pooled = pipeline.encode_prompt("a cat", None, None, "cpu")
    ours = load(folder).encode_text(["a cat", ""])
    assert ours.shape == (2, TOKENS + 256 + 1, 3 * WIDTH)
    our_tokens, our_pooled = unpack(ours, 2 * POOLED)
    torch.testing.assert_close(our_tokens, torch.cat([tokens, empty]))
    torch.testing.assert_close(our_pooled, torch.cat([pooled, empty_pooled]))


def test_flux_texts_are_those_of_its_pipeline(folders: dict, priors: dict):
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(folders["flux"])
    tokens, pooled, _ = pipeline.encode_prompt("a cat", None, "cpu")
    ours = unpack(priors["flux"].encode_text(["a cat"]), WIDTH)
    torch.testing.assert_close(ours, (tokens, pooled), atol=1e-4, rtol=1e-3)


def test_if_texts_are_those_of_its_pipeline(folders: dict, priors: dict):
    from diffusers import IFPipeline

    pipeline = IFPipeline.from_pretrained(folders["if"], safety_checker=None, watermarker=None)
    theirs = torch.cat(pipeline.encode_prompt("A Cat", device="cpu"))
    torch.testing.assert_close(priors["if"].encode_text(["A Cat", ""]), theirs)


def test_if_drops_the_variance_that_its_unet_learned(priors: dict):
    prior = priors["if"]
    noisy, t, text = inputs(prior, 2)
    with torch.no_grad():
        both = prior.network(noisy, prior.schedule.time(t), encoder_hidden_states=text).sample
    assert both.shape[1] == 6
    assert torch.equal(prior.predict(noisy, t, text).eps, both[:, :3])


def test_flows_are_told_the_times_of_the_shifted_schedule(priors: dict):
    """As the scheduler of diffusers spaces them, with the shift that its pipeline computes."""
    import math

    import diffusers

    t = torch.tensor([0.02, 0.3, 0.7, 1.0])
    sd3 = priors["sd3"].alpha_sigma(t)[1].flatten()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    known = scheduler.sigmas[(1000 - 1000 * t).round().long().clamp(max=999)]
    torch.testing.assert_close(sd3, known, rtol=1e-5, atol=1e-6)
    flux = priors["flux"].alpha_sigma(t)[1].flatten()
    mu = 0.5 + (1.15 - 0.5) / (4096 - 256) * (16 - 256)  # 16 patches
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(sigmas=t.flip(0).tolist(), mu=mu)
    torch.testing.assert_close(flux, scheduler.sigmas[:-1].flip(0), rtol=1e-5, atol=1e-6)
    assert flux[1] == pytest.approx(math.exp(mu) * 0.3 / (1 + (math.exp(mu) - 1) * 0.3), rel=1e-5)


def test_the_prediction_of_a_flow_moves_along_its_straight_path(priors: dict):
    for family in FLOWS:
        prior = priors[family]
        noisy, t, text = inputs(prior, 3)
        prediction = prior.predict(noisy, t, text)
        alpha, sigma = prior.alpha_sigma(t)
        torch.testing.assert_close(alpha + sigma, torch.ones_like(alpha))
        velocity = prediction.eps - prediction.x0
        with torch.no_grad():
            raw = prior.output(noisy, prior.schedule.time(t), text)
        torch.testing.assert_close(velocity, raw, rtol=1e-4, atol=1e-5)


def test_packing_of_flux_is_that_of_its_pipeline():
    from diffusers import FluxPipeline

    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = FluxPipeline._pack_latents(latents, 2, 4, 8, 8)
    assert torch.equal(to_patches(latents), theirs)
    assert torch.equal(to_latents(theirs), latents)
    ids = FluxPipeline._prepare_latent_image_ids(2, 4, 4, "cpu", torch.float32)
    assert torch.equal(patch_places(8), ids)


def test_flux_is_told_the_guidance_that_was_distilled_into_it(folders: dict, tmp_path: Path):
    def eps(folder: Path, **options) -> torch.Tensor:
        prior = load(folder, **options)
        return prior.predict(*inputs(prior, 2)).eps

    usual = eps(folders["flux"])
    assert torch.equal(usual, eps(folders["flux"], embedded_guidance=3.5))
    assert not torch.equal(usual, eps(folders["flux"], embedded_guidance=1.0))
    plain = save_tiny_flux(tmp_path / "flux-schnell", guidance_embeds=False)
    assert eps(plain).isfinite().all()


def test_what_is_packed_comes_back_for_every_width_and_mixes_linearly():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, 5, 8, generator=generator)
    for width in (1, 7, 8, 9, 20):
        pooled = torch.randn(3, width, generator=generator)
        packed = pack(tokens, pooled)
        assert packed.shape == (3, 5 + -(-width // 8), 8)
        torch.testing.assert_close(unpack(packed, width), (tokens, pooled), rtol=0, atol=0)
        mixed = unpack(0.3 * packed[:1] + 0.7 * packed[1:2], width)[1]
        torch.testing.assert_close(mixed, 0.3 * pooled[:1] + 0.7 * pooled[1:2])


def test_a_size_that_latents_cannot_have_is_refused(folders: dict):
    with pytest.raises(InputError, match="multiple of 4"):
        load(folders["sdxl"], image_size=30)
    assert load(folders["sdxl"], image_size=16).latent_size == 4
