"""The adapter on real diffusers and transformers classes with a few random weights."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import IMAGE_SIZE, TOKENS, WIDTH

from dreamlab.core.errors import InputError, MissingError
from dreamlab.priors.base import Prior
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.stable_diffusion import StableDiffusionPrior

FOLDERS = ["sd1_folder", "sd2_folder", "tiny_vae_folder"]


def load(folder: Path, **options) -> StableDiffusionPrior:
    prior = load_prior(PriorConfig(model=str(folder), **options), "cpu")
    assert isinstance(prior, StableDiffusionPrior)
    return prior


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def random_inputs(rows: int = 3):
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(rows, 4, IMAGE_SIZE // 4, IMAGE_SIZE // 4, generator=generator)
    t = torch.linspace(0.1, 0.9, rows)
    return noisy, t, torch.randn(rows, TOKENS, WIDTH, generator=generator)


@pytest.mark.parametrize("folder", FOLDERS, indirect=True)
def test_a_folder_loads_frozen_and_its_sizes_are_right(folder: Path):
    prior = load(folder)
    assert isinstance(prior, Prior)
    assert (prior.latent_channels, prior.latent_size) == (4, IMAGE_SIZE // 4)
    assert prior.image_size == IMAGE_SIZE
    for module in (prior.unet, prior.vae):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("folder", FOLDERS, indirect=True)
@pytest.mark.parametrize("size", [IMAGE_SIZE // 2, IMAGE_SIZE, 2 * IMAGE_SIZE])
def test_the_gradient_of_latents_reaches_every_pixel(folder: Path, size: int):
    prior = load(folder)
    images = torch.rand(2, size, size, 3, generator=torch.Generator().manual_seed(0))
    images.requires_grad_(True)
    latents = prior.encode_image(images, torch.Generator().manual_seed(0))
    assert latents.shape == (2, 4, IMAGE_SIZE // 4, IMAGE_SIZE // 4)
    assert latents.dtype == torch.float32
    latents.square().sum().backward()
    assert images.grad is not None and images.grad.isfinite().all()
    assert (images.grad != 0).all()


def test_posterior_samples_come_from_the_generator_and_none_means_the_mean(sd1_folder: Path):
    prior = load(sd1_folder)
    images = torch.rand(1, IMAGE_SIZE, IMAGE_SIZE, 3, generator=torch.Generator().manual_seed(0))

    def draw(seed: int) -> torch.Tensor:
        return prior.encode_image(images, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    mean = prior.encode_image(images, None)
    average = torch.stack([draw(seed) for seed in range(200)]).mean(dim=0)
    spread = (draw(0) - mean).std()
    assert (average - mean).std() < 3 * spread / 200**0.5


def test_encoding_applies_scaling_and_value_range_as_the_pipeline_does(sd1_folder: Path):
    prior = load(sd1_folder)
    images = torch.rand(2, IMAGE_SIZE, IMAGE_SIZE, 3, generator=torch.Generator().manual_seed(0))
    mean = prior.vae.encode(images.permute(0, 3, 1, 2) * 2 - 1).latent_dist.mean
    latents = prior.encode_image(images, None)
    torch.testing.assert_close(latents, mean * prior.vae.config.scaling_factor)
    decoded = prior.vae.decode(mean).sample.permute(0, 2, 3, 1)
    torch.testing.assert_close(prior.decode(latents), (decoded + 1) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("folder", FOLDERS, indirect=True)
def test_prediction_is_the_unet_output_at_the_timestep_of_alpha_sigma(folder: Path):
    prior = load(folder)
    noisy, t, text = random_inputs()
    k = torch.tensor([100, 500, 900])
    assert torch.equal(prior.schedule.time(t), k)
    kind = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())[
        "prediction_type"
    ]
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    abar = (1 - betas).cumprod(0)[k][:, None, None, None]
    alpha, sigma = prior.alpha_sigma(t)
    torch.testing.assert_close(alpha, abar.sqrt())
    torch.testing.assert_close(sigma, (1 - abar).sqrt())
    prediction = prior.predict(noisy, t, text)
    with torch.no_grad():
        output = prior.unet(noisy, k, encoder_hidden_states=text).sample
    native = prediction.eps if kind == "epsilon" else prediction.v
    assert torch.equal(native, output)
    torch.testing.assert_close(alpha * prediction.x0 + sigma * prediction.eps, noisy)


def test_times_at_both_ends_stay_on_the_schedule(sd1_folder: Path):
    k = load(sd1_folder).schedule.time(torch.tensor([0.0, 0.0004, 0.0006, 0.9996, 1.0]))
    assert k.tolist() == [0, 0, 1, 999, 999]


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_splitting_rows_over_calls_changes_nothing(sd2_folder: Path, rows: int):
    inputs = random_inputs(5)
    whole = load(sd2_folder).predict(*inputs)
    split = load(sd2_folder, max_rows=rows).predict(*inputs)
    torch.testing.assert_close(split.eps, whole.eps, rtol=1e-4, atol=1e-5)


def test_slicing_saves_memory_and_changes_no_result(sd1_folder: Path):
    inputs = random_inputs(2)
    images = torch.rand(2, IMAGE_SIZE, IMAGE_SIZE, 3, generator=torch.Generator().manual_seed(0))
    plain = load(sd1_folder)
    sliced = load(sd1_folder, memory=["vae_slicing", "attention_slicing"])
    assert sliced.vae.use_slicing and not plain.vae.use_slicing
    kinds = {type(p).__name__ for p in sliced.unet.attn_processors.values()}
    assert kinds == {"SlicedAttnProcessor"}
    torch.testing.assert_close(
        sliced.predict(*inputs).eps, plain.predict(*inputs).eps, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        sliced.encode_image(images, None), plain.encode_image(images, None), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("factor", [1e-7, 1e-3, 1e6])
def test_a_float16_encoder_sends_back_gradients_of_any_size(sd1_folder: Path, factor: float):
    """Weights of losses scale them, by 6e-5 in the recipe sdi."""
    prior = load(sd1_folder, dtype="float16")
    images = torch.rand(2, IMAGE_SIZE, IMAGE_SIZE, 3, generator=torch.Generator().manual_seed(0))
    images.requires_grad_(True)
    wanted = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def gradient(wanted: torch.Tensor) -> torch.Tensor:
        loss = (prior.encode_image(images, None) * wanted).sum()
        return torch.autograd.grad(loss, images)[0]

    found, expected = gradient(factor * wanted) / factor, gradient(wanted)
    assert (found - expected).norm() < 1e-2 * expected.norm()
    assert not gradient(0 * wanted).any()
    bad = wanted.clone()
    bad[0, 0, 0, 0] = torch.inf
    assert not gradient(bad)[0].isfinite().all()
    assert gradient(bad)[1].isfinite().all(), "the other picture is none the worse"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stays_near_single_and_gradients_stay_finite(sd1_folder: Path, dtype: str):
    noisy, t, text = random_inputs(2)
    reference, half = load(sd1_folder), load(sd1_folder, dtype=dtype)
    assert half.unet.dtype == half.vae.dtype == getattr(torch, dtype)
    prediction = half.predict(noisy, t, text)
    assert prediction.x0.dtype == torch.float32
    tolerance = 1e-2 if dtype == "float16" else 1e-1
    error = (prediction.eps - reference.predict(noisy, t, text).eps).std()
    assert error < tolerance * reference.predict(noisy, t, text).eps.std()
    images = torch.rand(1, IMAGE_SIZE, IMAGE_SIZE, 3, generator=torch.Generator().manual_seed(0))
    images.requires_grad_(True)
    latents = half.encode_image(images, torch.Generator().manual_seed(0))
    assert latents.dtype == torch.float32
    latents.square().sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.norm() > 0


def test_the_unet_runs_without_gradient(sd1_folder: Path):
    noisy, t, text = random_inputs(1)
    assert not load(sd1_folder).predict(noisy.requires_grad_(True), t, text).x0.requires_grad


def edited(folder: Path, target: Path, part: str, name: str, **changes) -> Path:
    shutil.copytree(folder, target)
    path = target / part / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return target


@pytest.mark.parametrize(
    ("part", "name", "changes", "words"),
    [
        ("unet", "config.json", {"in_channels": 9}, "9 channels"),
        ("unet", "config.json", {"addition_embed_type": "text_time"}, "SDXL"),
        ("unet", "config.json", {"cross_attention_dim": 7}, "width"),
        ("unet", "config.json", {"sample_size": None}, "sample_size"),
        (".", "model_index.json", {"unet": ["diffusers", "SD3Transformer2DModel"]}, "unet is SD3"),
        (".", "model_index.json", {"text_encoder": ["os", "system"]}, "text_encoder is system"),
        (".", "model_index.json", {"scheduler": ["diffusers", "logging"]}, "unknown scheduler"),
        (
            ".",
            "model_index.json",
            {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]},
            "no noise schedule",
        ),
    ],
)
def test_models_of_another_family_are_refused_by_name(
    sd1_folder: Path, tmp_path: Path, part: str, name: str, changes: dict, words: str
):
    folder = edited(sd1_folder, tmp_path / "model", part, name, **changes)
    with pytest.raises(InputError, match=words):
        load(folder)


def test_damaged_weights_are_named(sd1_folder: Path, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(sd1_folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MissingError, match="unet cannot be loaded"):
        load(folder)


def test_pickled_weights_are_never_read(sd1_folder: Path, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(sd1_folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(MissingError, match=r"unet/diffusion_pytorch_model\.safetensors"):
        load(folder)


def test_code_in_a_model_folder_is_never_run(sd1_folder: Path, tmp_path: Path):
    folder, trace = tmp_path / "model", tmp_path / "trace"
    shutil.copytree(sd1_folder, folder)
    code = f"open({str(trace)!r}, 'w').close()\nclass Evil: ...\n"
    for part in ("unet", "text_encoder", "vae"):
        (folder / part / "evil.py").write_text(code)
        path = folder / part / "config.json"
        custom = {"auto_map": dict.fromkeys(("AutoModel", "AutoConfig"), "evil.Evil")}
        path.write_text(json.dumps(json.loads(path.read_text()) | custom))
    load(folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "evil.py").write_text(code)
    for custom in ({"unet": ["evil", "Evil"]}, {"_class_name": ["evil", "Evil"]}):
        (folder / "model_index.json").write_text(json.dumps(index | custom))
        with contextlib.suppress(InputError, MissingError):
            load(folder)
    assert not trace.exists()


def test_half_precision_files_serve_when_they_are_the_only_ones(sd1_folder: Path, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(sd1_folder, folder)
    for part in ("unet", "vae"):
        path = folder / part / "diffusion_pytorch_model.safetensors"
        halves = {name: value.half() for name, value in load_file(path).items()}
        save_file(halves, path.with_name("diffusion_pytorch_model.fp16.safetensors"))
        path.unlink()
    prior = load(folder)
    assert prior.unet.dtype == torch.float32
    inputs = random_inputs(1)
    torch.testing.assert_close(
        prior.predict(*inputs).eps, load(sd1_folder).predict(*inputs).eps, rtol=1e-2, atol=1e-2
    )
