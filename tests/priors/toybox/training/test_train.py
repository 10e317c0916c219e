"""A whole training at toy size: exact resume, export, refusal of foreign folders."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import TINY_TOYBOX as TINY

from dreamlab.core.errors import InputError
from dreamlab.priors.toybox.training import session, train
from dreamlab.priors.toybox.training.decoder import DecoderConfig
from dreamlab.priors.toybox.training.diffusion import DiffusionConfig
from dreamlab.priors.toybox.training.text import TextConfig


@pytest.fixture(autouse=True)
def small_probe(monkeypatch):
    monkeypatch.setattr(train, "_PROBED", 4)


def config_in(folder, steps):
    return session.TrainConfig(
        work=folder,
        architecture=TINY,
        decoder=DecoderConfig(steps=4, batch=2, images_for_basis=64),
        text=TextConfig(steps=2, batch=4),
        diffusion=DiffusionConfig(steps=steps, batch=2, warm_up=2, first_shards=1, cooldown=0.0),
        log_every=1,
        checkpoint_every=2,
        picture_every=1000,
        prompts=("a red mushroom", "a zyxq cube"),
    )


def losses_of(config):
    seen = []
    train.train(config, lambda p: seen.append((p.phase, p.step, p.values.get("loss"))))
    return [entry for entry in seen if entry[0] != "latents"]


class Killed(Exception):
    pass


@pytest.mark.parametrize("phase", [pytest.param("decoder", marks=pytest.mark.slow), "diffusion"])
def test_a_killed_training_continues_bit_for_bit(tmp_path, phase):
    whole = losses_of(config_in(tmp_path / "whole", 4))
    config, seen = config_in(tmp_path / "parts", 4), []

    def kill_at_three(progress):
        if progress.phase != "latents":
            seen.append((progress.phase, progress.step, progress.values["loss"]))
        if (progress.phase, progress.step) == (phase, 3):
            raise Killed

    with pytest.raises(Killed):
        train.train(config, kill_at_three)
    resumed = losses_of(config)
    assert resumed[0][:2] == (phase, 3)  # from the checkpoint after step 2
    assert resumed == whole[-len(resumed) :]
    assert seen == whole[: len(seen)]


def test_a_folder_loads_in_the_ordinary_pipeline_and_draws(tmp_path):
    from dreamlab.priors.toybox.training.sample import draw_samples, load_pipeline

    config = replace(config_in(tmp_path / "work", 2), export=tmp_path / "weights")
    train.train(config, lambda progress: None)
    pipeline = load_pipeline(tmp_path / "weights", torch.device("cpu"))
    assert type(pipeline).__name__ == "StableDiffusionPipeline"
    images = draw_samples(pipeline, ["a red mushroom", "a zyxq cube"], steps=2)
    assert images.shape == (2, 64, 64, 3)
    assert (images[0] != images[1]).any()
    card = (tmp_path / "weights" / "README.md").read_text()
    assert "2 steps" in card and "samples.png" in card
    probes = [
        line for line in train.read_log(config.work / "progress.jsonl") if "view@0.85" in line
    ]
    assert [line["step"] for line in probes] == [2]
    for name in ("samples.png", "curves.png"):
        assert (tmp_path / "weights" / name).stat().st_size > 0


def test_a_training_can_begin_with_exported_weights(tmp_path):
    first = replace(config_in(tmp_path / "first", 2), export=tmp_path / "weights")
    train.train(first, lambda progress: None)
    config = replace(config_in(tmp_path / "second", 1), start=tmp_path / "weights")
    opened = session.open_session(config, lambda progress: None)
    stored = load_file(tmp_path / "weights" / "unet" / "diffusion_pytorch_model.safetensors")
    for name, tensor in opened.trainer.modules["unet"].state_dict().items():
        assert torch.equal(tensor, stored[name].float())
    with pytest.raises(InputError, match="has no"):
        session.open_session(
            replace(config_in(tmp_path / "third", 1), start=tmp_path), lambda progress: None
        )


def test_a_folder_of_another_training_is_refused(tmp_path):
    train.train(config_in(tmp_path, 1), lambda progress: None)
    other = replace(config_in(tmp_path, 1), seed=5)
    with pytest.raises(InputError, match="other seed"):
        train.train(other, lambda progress: None)


def test_a_device_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match="no device"):
        train.train(replace(config_in(tmp_path, 1), device="tpu"), lambda progress: None)
