"""How much longer a step takes than the calls of the diffusion model that it cannot do without.

The model has random weights. On a graphics card it has the shapes of Stable Diffusion 1.5 or XL,
and the step may take 1.15 times as long (`pytest -m gpu -rP` tells the times); on a CPU the same is
done in small, to see that it runs.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from real_shapes import SD15, SDXL, with_random_weights
from tiny_models import save_tiny_pipeline, save_tiny_sdxl

from dreamlab.core.config import build
from dreamlab.priors.base import Prior
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.systems.guidance import build_guidance
from dreamlab.systems.settings import StageConfig
from dreamlab.systems.stage import Stage
from dreamlab.training.trainer import StageTrainer

GOAL = 1.15
VIEWS, WARM_UP, REPEATS = 2, 5, 15
MODELS: dict[str, Callable[[Path], Path]] = {
    "tiny": save_tiny_pipeline,
    "sd15": lambda folder: with_random_weights(save_tiny_pipeline(folder), SD15),
    "sdxl": lambda folder: with_random_weights(save_tiny_sdxl(folder), SDXL),
}
OBJECTS: dict[str, dict[str, Any]] = {
    "hashgrid": {"renderer": {"name": "volume"}},
    "gaussians": {"renderer": {"name": "splat"}},
    "dmtet": {"renderer": {"name": "mesh"}},
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("tiny", "cpu"), marks=pytest.mark.slow),
        pytest.param(("sd15", "cuda"), marks=pytest.mark.gpu),
        pytest.param(("sdxl", "cuda"), marks=pytest.mark.gpu),
    ],
    ids=lambda param: "-".join(param),
)
def prior(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prior:
    name, device = request.param
    folder = MODELS[name](tmp_path_factory.mktemp("timed") / name)
    return load_prior(PriorConfig(model=str(folder), memory=[]), torch.device(device))


def trainer_of(name: str, prior: Prior) -> StageTrainer:
    settings = {
        "steps": 1000,
        "views": VIEWS,
        "guidance": {"name": "sds"},
        "milestones": [{"until": 1.0, "size": prior.image_size}],
        "representation": {"name": name},
        **OBJECTS[name],
    }
    stage = Stage("only", build(StageConfig, settings), None, seed=0, device=prior.device)
    texts = {"prompt": "a", "negative_prompt": "", "seed": 0}
    stage.guidance = build_guidance("only", stage.config, prior, **texts)
    return StageTrainer(stage, 0)


def bare_calls(prior: Prior) -> Callable[[], None]:
    """Encode the views, predict with and without the prompt, and go back to the pixels."""
    side, device = prior.image_size, prior.device
    images = torch.rand(VIEWS, side, side, 3, device=device, requires_grad=True)
    text = prior.encode_text(["a"]).to(device).expand(2 * VIEWS, -1, -1)
    t = torch.full((2 * VIEWS,), 0.5, device=device)

    def call() -> None:
        latents = prior.encode_image(images, None)
        predicted = prior.predict(latents.detach().repeat(2, 1, 1, 1), t, text)
        (latents * predicted.eps[:VIEWS]).sum().backward()

    return call


def median_seconds(work: Callable[[], object], device: torch.device) -> float:
    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    times = []
    for turn in range(WARM_UP + REPEATS):
        finish()
        start = time.perf_counter()
        work()
        finish()
        times.append((turn, time.perf_counter() - start))
    return float(torch.tensor([seconds for turn, seconds in times if turn >= WARM_UP]).median())


@pytest.mark.parametrize("name", OBJECTS)
def test_a_step_takes_little_longer_than_its_calls_of_the_diffusion_model(name: str, prior: Prior):
    trainer = trainer_of(name, prior)
    bare = median_seconds(bare_calls(prior), prior.device)
    step = median_seconds(trainer.advance, prior.device)
    sys.stdout.write(f"{1e3 * step:.1f} ms a step, {1e3 * bare:.1f} ms bare: {step / bare:.2f}\n")
    assert 0 < bare < 2 * step
    if prior.device.type == "cuda":
        assert step <= GOAL * bare
