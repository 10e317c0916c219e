"""A second model that learns beside the prior: what it must share, and that it alone is changed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from guided_views import as_render, cameras_at
from tiny_models import IMAGE_SIZE, save_tiny_pipeline

from dreamlab.core.errors import InputError, MissingError
from dreamlab.guidance.vsd import VSD
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.learner import load_learner
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.systems.guidance import build_guidance
from dreamlab.systems.settings import StageConfig

TEXTS = {"prompt": "a", "negative_prompt": "", "seed": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predicts noise."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("base") / "base", "epsilon")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same autoencoder; predicts velocity."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("other") / "other", "v_prediction")


@pytest.fixture
def prior(folder: Path) -> DiffusionPrior:
    loaded = load_prior(PriorConfig(model=str(folder)), "cpu")
    assert isinstance(loaded, DiffusionPrior)
    return loaded


def test_the_second_model_learns_and_the_prior_has_no_adapters(prior: DiffusionPrior, other: Path):
    settings = {"name": "vsd", "learned_model": str(other), "learning_rate": 1e-2}
    rule = build_guidance("nerf", StageConfig(steps=1, guidance=settings), prior, **TEXTS)
    assert isinstance(rule, VSD) and rule.score.parametrisation == "v_prediction"
    before = {name: tensor.clone() for name, tensor in rule.state().items()}
    pictures = torch.rand(2, IMAGE_SIZE, IMAGE_SIZE, 3).requires_grad_(True)
    output = rule(as_render(pictures), cameras_at([0, 90]), 0.0, torch.Generator().manual_seed(0))
    output.loss.backward()
    assert pictures.grad is not None and pictures.grad.isfinite().all() and pictures.grad.any()
    assert any((before[name] != rule.state()[name]).any() for name in before)
    assert not prior.has_learned_scores
    assert not any("lora" in name for name, _ in prior.network.named_modules())


def test_the_autoencoder_is_in_memory_once(prior: DiffusionPrior, other: Path):
    learner = load_learner(str(other), prior)
    assert isinstance(learner, DiffusionPrior) and learner.space is prior.space


def test_a_model_of_other_latents_or_noise_is_refused(
    prior: DiffusionPrior, folder: Path, tmp_path: Path
):
    smaller = save_tiny_pipeline(tmp_path / "tiny-ae", "epsilon", "tiny")
    with pytest.raises(InputError, match="autoencoder is not that of base"):
        load_learner(str(smaller), prior)
    changed = save_tiny_pipeline(tmp_path / "noisier", "epsilon")
    edit(changed / "scheduler" / "scheduler_config.json", beta_end=0.02)
    with pytest.raises(InputError, match=r"noise levels are not those of base.*\n?"):
        load_learner(str(changed), prior)
    with pytest.raises(InputError, match="nowhere"):
        load_learner("nowhere", prior)
    with pytest.raises(MissingError, match="cannot be had"):
        load_learner("nobody/no-such-model", prior)


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
