"""Training of a prior of several views at toy size: what is trained, resume, what is saved."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import TINY_TOYBOX as TINY

from dreamlab.core.errors import InputError, MissingError
from dreamlab.core.locations import PACKAGE
from dreamlab.priors.folder import missing_parts
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.mvdream import MVDreamPrior
from dreamlab.priors.toybox.model import (
    Architecture,
    build_text_encoder,
    build_unet,
    build_vae,
    save_folder,
)
from dreamlab.priors.toybox.tokenizer import build_tokenizer
from dreamlab.priors.toybox.training import multi_view
from dreamlab.priors.toybox.training.multi_view import (
    MultiViewConfig,
    MultiViewTrainer,
    export,
    train,
)
from dreamlab.priors.toybox.world.captions import parse_prompt, vocabulary


@pytest.fixture(autouse=True)
def small_probe(monkeypatch):
    monkeypatch.setattr(multi_view, "PROBE_GROUPS", 2)


def saved(architecture: Architecture, folder: Path) -> Path:
    """Write a prior of one view with random weights."""
    tokenizer = build_tokenizer(vocabulary(), architecture.tokens)
    torch.manual_seed(0)
    modules = {
        "vae": build_vae(architecture),
        "unet": build_unet(architecture),
        "text_encoder": build_text_encoder(architecture, tokenizer),
    }
    save_folder(folder, modules, tokenizer)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    return saved(TINY, tmp_path_factory.mktemp("prior") / "one")


def config_in(folder: Path, start: Path, steps: int = 4) -> MultiViewConfig:
    return MultiViewConfig(
        folder, start, steps=steps, groups=2, warm_up=1, cooldown=0.0, log_every=1,
        checkpoint_every=2, probe_every=1000,
    )  # fmt: skip


class Killed(Exception):
    pass


def test_a_killed_training_continues_bit_for_bit(tmp_path, start):
    losses: dict[str, list[float]] = {"whole": [], "parts": []}

    def until_killed(progress):
        if progress.step == 4:
            raise Killed
        losses["parts"].append(progress.values["loss"])

    train(config_in(tmp_path / "whole", start), lambda p: losses["whole"].append(p.values["loss"]))
    config = config_in(tmp_path / "parts", start)
    with pytest.raises(Killed):
        train(config, until_killed)
    again: list[float] = []
    train(config, lambda p: again.append(p.values["loss"]))
    assert losses["parts"] == losses["whole"][:3] and again == losses["whole"][2:]
    whole, parts = (
        load_file(tmp_path / name / "multi_view.safetensors") for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_group_is_one_scene_from_four_sides_at_one_elevation(start, tmp_path):
    trainer = MultiViewTrainer(config_in(tmp_path, start))
    groups = trainer.groups("test", 0, 6)
    azimuth = groups.cameras.azimuth.unflatten(0, (6, 4))
    turns = (azimuth - azimuth[:, :1]) % 360
    torch.testing.assert_close(turns, torch.tensor([[0.0, 90, 180, 270]]).expand(6, 4))
    elevation = groups.cameras.elevation.unflatten(0, (6, 4))
    assert torch.equal(elevation, elevation[:, :1].expand(6, 4))
    texts = trainer.tokenizer.batch_decode(groups.tokens, skip_special_tokens=True)
    kinds = set()
    for group in range(6):
        own = texts[4 * group : 4 * group + 4]
        assert len({repr(parse_prompt(text)) for text in own}) == 1
        kinds.add(len(set(own)) == 1)
    assert kinds == {True, False}, "with words for the views and without"


def test_it_begins_as_the_prior_with_views_that_hear_each_other_and_no_camera(start, tmp_path):
    trainer = MultiViewTrainer(config_in(tmp_path, start))
    export(trainer, tmp_path / "views", 1.0)
    joint, single = (
        load_prior(PriorConfig(model=str(folder)), "cpu") for folder in (tmp_path / "views", start)
    )
    assert isinstance(joint, MVDreamPrior)
    groups = trainer.groups("test", 0, 1)
    t = torch.full((4,), 0.7)
    text = joint.encode_text(["a red mushroom"]).expand(4, -1, -1)[:, None]
    told = joint.with_cameras(text, groups.cameras)[:, 0]
    other = groups.cameras.azimuth + 40
    turned = joint.with_cameras(text, replace(groups.cameras, azimuth=other))[:, 0]
    noisy = torch.randn(groups.latents.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(joint.predict(noisy, t, told).eps, joint.predict(noisy, t, turned).eps)
    four = noisy[:1].expand(4, -1, -1, -1)
    alone = single.predict(four, t, single.encode_text(["a red mushroom"]).expand(4, -1, -1)).eps
    torch.testing.assert_close(joint.predict(four, t, told).eps, alone, rtol=1e-3, atol=1e-3)
    moved = noisy.clone()
    moved[0] += 1
    changes = (joint.predict(moved, t, told).eps - joint.predict(noisy, t, told).eps)[1:]
    assert (changes.abs().amax(dim=(1, 2, 3)) > 1e-6).all()


def test_what_is_saved_is_what_was_trained_and_the_rest_is_the_bases(start, tmp_path):
    config = config_in(tmp_path / "work", start, steps=2)
    train(replace(config, export=tmp_path / "views"), lambda p: None)
    saved = load_file(tmp_path / "views" / "unet" / "diffusion_pytorch_model.safetensors")
    base = load_file(start / "unet" / "diffusion_pytorch_model.safetensors")
    changed = {
        name for name in saved if name not in base or not torch.equal(saved[name], base[name])
    }
    assert {name.split(".")[0] for name in saved.keys() - base.keys()} == {"class_embedding"}
    assert any(".attn1." in name for name in changed)
    assert all(".attn1." in n or ".norm1." in n or "class_embedding" in n for n in saved)
    card = (tmp_path / "views" / "README.md").read_text()
    assert "| steps | 2 |" in card and "| groups of four views | 4 |" in card
    assert not (tmp_path / "views" / "vae").exists() and not missing_parts(tmp_path / "views")
    loaded = load_prior(PriorConfig(model=str(tmp_path / "views")), "cpu")
    assert isinstance(loaded, MVDreamPrior) and loaded.num_views == 4
    weights = loaded.network.state_dict()
    for name, tensor in (base | saved).items():
        assert torch.equal(weights[name], tensor.float()), name


def test_a_folder_whose_base_is_gone_says_so(start, tmp_path):
    export(MultiViewTrainer(config_in(tmp_path, start)), tmp_path / "a" / "views", 1.0)
    (tmp_path / "b").mkdir()
    (tmp_path / "a").rename(tmp_path / "b" / "deeper")
    with pytest.raises(MissingError, match="lacks vae"):
        load_prior(PriorConfig(model=str(tmp_path / "b" / "deeper" / "views")), "cpu")


def test_the_probe_compares_with_turned_cameras_and_with_other_objects(start, tmp_path):
    trainer = MultiViewTrainer(config_in(tmp_path, start))
    before = [p.clone() for p in trainer.weights]
    found = trainer.probe()
    assert all(torch.equal(p, old) for p, old in zip(trainer.weights, before, strict=True))
    assert all(found[f"loss@{t}"] > 0 for t in multi_view.PROBE_TIMES)
    assert all(found[f"turned@{t}"] == 0 for t in multi_view.PROBE_TIMES), "M says nothing yet"
    with torch.no_grad():
        trainer.average[2].normal_(generator=torch.Generator().manual_seed(0))
    changed = trainer.probe()
    assert any(changed[f"turned@{t}"] != 0 for t in multi_view.PROBE_TIMES)
    assert any(changed[f"strangers@{t}"] != 0 for t in multi_view.PROBE_TIMES)


def test_another_networks_checkpoint_is_refused(start, tmp_path):
    train(config_in(tmp_path / "work", start, steps=2), lambda p: None)
    other = saved(replace(TINY, unet_channels=(32, 64, 64)), tmp_path / "other")
    with pytest.raises(InputError, match="not a checkpoint of this architecture"):
        train(config_in(tmp_path / "work", other, steps=4), lambda p: None)


def test_the_weights_that_ship_hear_the_other_views_of_an_object(tmp_path):
    prior = load_prior(PriorConfig(model="toybox-views"), "cpu")
    assert isinstance(prior, MVDreamPrior) and prior.num_views == 4
    weights = PACKAGE / "priors" / "toybox" / "weights"
    groups = MultiViewTrainer(config_in(tmp_path, weights)).groups("test", 0, 8)
    tokens = prior.encode_text([""]).expand(len(groups.latents), -1, -1)[:, None]
    told = prior.with_cameras(tokens, groups.cameras)[:, 0]
    noise = torch.randn(groups.latents.shape, generator=torch.Generator().manual_seed(0))
    t = torch.full((len(noise),), 0.9)
    alpha, sigma = prior.alpha_sigma(t)
    noisy = alpha * groups.latents + sigma * noise

    def error(rows: torch.Tensor) -> float:
        predicted = prior.predict(noisy[rows], t, told[rows]).eps
        return (predicted - noise[rows]).square().mean().item()

    own = torch.arange(len(noise))
    strangers = (own // 4 + own % 4) % 8 * 4 + own % 4  # view v of group g in group g + v
    assert error(strangers) > 1.02 * error(own)
