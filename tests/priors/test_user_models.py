"""What users bring: checkpoints in one file, LoRA files, and teachers of few steps."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import IMAGE_SIZE, TOKENS, WIDTH, save_tiny_pipeline, save_tiny_sd3
from user_files import write_lora, write_single_file

from dreamlab.core.errors import InputError, MissingError
from dreamlab.priors.base import Prediction
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.load import Model, PriorConfig, load_prior
from dreamlab.priors.stable_diffusion import guidance_embedding
from dreamlab.priors.user_loras import UserLora


def load(folder: Path, **options) -> DiffusionPrior:
    prior = load_prior(PriorConfig(model=str(folder), **options), "cpu")
    assert isinstance(prior, DiffusionPrior)
    return prior


def predict(prior: DiffusionPrior) -> Prediction:
    generator = torch.Generator().manual_seed(3)
    side = prior.latent_size
    noisy = torch.randn(2, prior.latent_channels, side, side, generator=generator)
    text = prior.encode_text(["a cat", "a dog"])
    return prior.predict(noisy, torch.tensor([0.3, 0.8]), text)


def query(prior: DiffusionPrior) -> tuple[str, torch.Tensor]:
    return next((n, p) for n, p in prior.network.named_parameters() if n.endswith("to_q.weight"))


@pytest.fixture
def shaken_file(sd1_folder: Path, tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A single file of the tiny model with other weights, and those by their new names."""
    file = tmp_path / "tuned.safetensors"
    return file, write_single_file(sd1_folder, file, shaken=0.1)


def test_a_checkpoint_in_one_file_brings_all_its_networks_and_is_converted_once(
    sd1_folder: Path, tmp_path: Path, shaken_file: tuple, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DREAMLAB_CACHE", str(tmp_path / "cache"))
    file, shaken = shaken_file
    prior = load(sd1_folder, checkpoint=str(file))
    text = prior.texts[0]._load()
    loaded = {
        f"{part}.{name}": weight
        for part, network in (
            ("unet", prior.network),
            ("vae", prior.space.vae),  # type: ignore[attr-defined]
            ("text_encoder", text),
        )
        for name, weight in network.named_parameters()
    }
    assert loaded.keys() == shaken.keys()
    for name, weight in loaded.items():
        assert torch.equal(weight, shaken[name]), name
    plain = load(sd1_folder)
    assert prior.identity != plain.identity
    assert (predict(prior).eps - predict(plain).eps).abs().max() > 1e-4
    monkeypatch.setattr(
        "dreamlab.priors.single_file._convert", lambda *_: pytest.fail("converted twice")
    )
    again = load(sd1_folder, checkpoint=str(file))
    assert torch.equal(predict(again).eps, predict(prior).eps)


def test_a_checkpoint_that_is_none_is_refused_and_leaves_nothing(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DREAMLAB_CACHE", str(tmp_path / "cache"))
    pickled = tmp_path / "model.ckpt"
    pickled.write_bytes(b"x")
    with pytest.raises(InputError, match="can run code"):
        load(sd1_folder, checkpoint=str(pickled))
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no checkpoint of the kind of"):
        load(sd1_folder, checkpoint=str(tmp_path / "other.safetensors"))
    assert not any((tmp_path / "cache" / "models").glob("*"))


@pytest.mark.parametrize("layout", ["peft", "kohya"])
def test_a_stack_of_loras_adds_its_weighted_changes(sd1_folder: Path, tmp_path: Path, layout: str):
    from safetensors.torch import load_file

    files, scales = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"], []
    for seed, file in enumerate(files):
        scales.append(write_lora(sd1_folder, file, seed, layout=layout))
    plain, weights = load(sd1_folder), (0.8, -0.5)
    loras = [UserLora(str(f), w) for f, w in zip(files, weights, strict=True)]
    merged = load(sd1_folder, loras=loras)
    name, before = query(plain)
    expected = before.clone()
    for file, weight, scale in zip(files, weights, scales, strict=True):
        tensors = load_file(file)
        module = name.removesuffix(".weight")
        if layout == "peft":
            up, down = (tensors[f"unet.{module}.lora_{x}.weight"] for x in "BA")
        else:
            flat = "lora_unet_" + module.replace(".", "_")
            up, down = (tensors[f"{flat}.lora_{x}.weight"] for x in ("up", "down"))
        expected += weight * scale * up @ down
    torch.testing.assert_close(query(merged)[1], expected, rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in merged.network.parameters())
    assert not any("lora" in name for name, _ in merged.network.named_modules())
    assert (predict(merged).eps - predict(plain).eps).abs().max() > 1e-4


@pytest.mark.slow
def test_a_transformer_takes_loras_too(tmp_path: Path):
    folder = save_tiny_sd3(tmp_path / "sd3", t5=False)
    write_lora(folder, tmp_path / "a.safetensors", 0)
    plain = predict(load(folder))
    changed = predict(load(folder, loras=[UserLora(str(tmp_path / "a.safetensors"))]))
    assert (changed.x0 - plain.x0).abs().max() > 1e-4
    none = predict(load(folder, loras=[UserLora(str(tmp_path / "a.safetensors"), 0.0)]))
    torch.testing.assert_close(none.x0, plain.x0)


def test_files_that_are_no_lora_for_the_model_are_refused(sd1_folder: Path, tmp_path: Path):
    pickled = tmp_path / "lora.ckpt"
    pickled.write_bytes(b"x")
    with pytest.raises(InputError, match="can run code"):
        load(sd1_folder, loras=[UserLora(str(pickled))])
    with pytest.raises(MissingError, match=r"prior\.loras\[0\]\.path: there is no file"):
        load(sd1_folder, loras=[UserLora(str(tmp_path / "none.safetensors"))])
    (tmp_path / "damaged.safetensors").write_bytes(b"x")
    with pytest.raises(MissingError, match="cannot be read"):
        load(sd1_folder, loras=[UserLora(str(tmp_path / "damaged.safetensors"))])
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no LoRA for a Stable Diffusion 1"):
        load(sd1_folder, loras=[UserLora(str(tmp_path / "other.safetensors"))])


def test_what_is_for_the_text_encoder_is_left_out_with_a_warning(
    sd1_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    from safetensors.torch import load_file

    path = tmp_path / "a.safetensors"
    write_lora(sd1_folder, path, 0)
    extra = {f"text_encoder.layer.lora_{x}.weight": torch.zeros(2, 2) for x in "AB"}
    save_file(load_file(path) | extra, path)
    with caplog.at_level(logging.WARNING):
        load(sd1_folder, loras=[UserLora(str(path))])
    assert "2 tensors for the text encoder" in caplog.text


def test_a_teacher_of_few_steps_is_asked_at_its_timesteps_alone(
    sd1_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    known = Model(sources=[str(sd1_folder)], few_steps=4, max_guidance=1.0)
    monkeypatch.setattr("dreamlab.priors.load.resolve_model", lambda _: known)
    prior = load(sd1_folder)
    t = torch.tensor([0.0, 0.249, 0.37, 0.38, 0.6, 0.98, 1.0])
    k = prior.schedule.time(t)
    assert k.tolist() == [249, 249, 249, 499, 499, 999, 999]
    alpha, _ = prior.alpha_sigma(t)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    torch.testing.assert_close(alpha.flatten(), (1 - betas).cumprod(0)[k].sqrt())
    assert prior.max_guidance == 1.0


def test_a_consistency_model_is_told_its_guidance_and_is_known_by_its_files(tmp_path: Path):
    from diffusers import LatentConsistencyModelPipeline

    folder = save_tiny_pipeline(tmp_path / "lcm", time_cond_proj_dim=16)
    theirs = LatentConsistencyModelPipeline.get_guidance_scale_embedding(
        LatentConsistencyModelPipeline, torch.tensor([7.5]), 16
    )
    torch.testing.assert_close(guidance_embedding(8.5, 16), theirs, rtol=1e-4, atol=1e-4)
    prior = load(folder)
    assert prior.max_guidance == 2.0
    assert prior.schedule.time(torch.tensor([0.0, 0.5, 1.0])).tolist() == [19, 499, 999]
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 4, IMAGE_SIZE // 4, IMAGE_SIZE // 4, generator=generator)
    text = torch.randn(1, TOKENS, WIDTH, generator=generator)
    with torch.no_grad():
        expected = prior.network(
            noisy, torch.tensor([499]), encoder_hidden_states=text, timestep_cond=theirs
        ).sample
    t = torch.tensor([0.5])
    torch.testing.assert_close(prior.predict(noisy, t, text).eps, expected, rtol=1e-3, atol=1e-4)
    other = load(folder, embedded_guidance=2.0).predict(noisy, t, text).eps
    assert (other - expected).abs().max() > 1e-5
