"""The main job's step: against plain torch, against its guidance alone, and the prior's share.

The stage is the last one of a recipe, trained for a few steps first, so that the field has a
surface and the occupancy grid knows where. A turn is `STEPS` steps of the real trainer, always from
the same state on: render, guidance, backward, optimiser, and one refresh of the occupancy grid.

Against plain torch the guidance is a picture to compare with, which costs next to nothing, so what
is compared is marching, the field and compositing, forward and backward.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

import torch

from dreamlab.core import seeds
from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import DivergedError
from dreamlab.core.render import Render
from dreamlab.evaluation.speed.figures import Call, Figure, Goal, medians, speedup
from dreamlab.guidance.base import Guidance, GuidanceOutput
from dreamlab.guidance.prompts import Prompts
from dreamlab.jobs.recipes import RunConfig
from dreamlab.systems.guidance import build_guidance
from dreamlab.systems.prior import load_for_stages
from dreamlab.systems.settings import StageConfig
from dreamlab.systems.stage import Stage
from dreamlab.training.checkpoint import Snapshot
from dreamlab.training.trainer import StageTrainer

STEPS = 8
"""Steps of a turn: as many as lie between two refreshes of the occupancy grid."""
CPU = torch.device("cpu")
NERF_GOAL, PAIR_GOAL = 5.0, 40.0
GUIDANCE_GOALS = {"volume": 2.5, "splat": 1.8, "mesh": 1.6}
"""Whole steps over their guidance, by the name of the renderer."""


class Picture:
    """Stands in for guidance: the mean squared difference from a grey picture."""

    def __call__(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> GuidanceOutput:
        return GuidanceOutput((render.rgb - 0.5).square().mean())


def main_job_figures(config: RunConfig, num_warm_up: int, repeats: int) -> Iterator[Figure]:
    """Time every stage of `config` on the CPU; torch must be on one thread.

    A stage is timed from its own initial values, not from what the stage before it leaves. Those
    that march through a volume are compared with plain torch.

    Args:
        config: its prompt, seed, prior and stages are used.
        num_warm_up: training steps before a stage is timed.
        repeats: timed turns a figure, at least.

    Raises:
        DivergedError: a training step went bad.
        MissingError: the prior cannot be had.
    """
    prior = load_for_stages(config.prior, list(config.stages.values()), CPU, config.layout)
    for name, stage_config in config.stages.items():
        stage_config = replace(stage_config, steps=num_warm_up + STEPS, start_from=None)
        guidance = build_guidance(
            name,
            stage_config,
            prior,
            prompt=config.prompt,
            negative_prompt=config.negative_prompt,
            seed=config.seed,
            layout=config.layout,
        )
        stage = Stage(
            name, stage_config, guidance, seed=config.seed, device=CPU, layout=config.layout
        )
        trainer = StageTrainer(stage, 0)
        _advance(trainer, num_warm_up)
        start = trainer.capture()
        yield _share_of_guidance(trainer, start, guidance, repeats)
        if stage_config.renderer["name"] == "volume":
            yield _against_torch(stage, start, repeats)


def prior_pair(config: RunConfig, repeats: int) -> Figure:
    """Time the prediction for one view with its prompt and with the negative one.

    Raises:
        MissingError: the prior cannot be had.
    """
    prior = load_for_stages(config.prior, list(config.stages.values()), CPU, config.layout)
    stage = next(iter(config.stages.values()))
    prompts = Prompts.encode(prior, config.prompt, config.negative_prompt, stage.prompts)
    size = prior.latent_size
    noisy = torch.randn(2, prior.latent_channels, size, size, generator=seeds.generator(0, "pair"))
    conditioning = torch.stack([prompts.views[0], prompts.negative])
    call = partial(prior.predict, noisy, torch.full((2,), 0.5), conditioning)
    times = medians({"dreamlab": call}, repeats)
    what = f"pair of predictions for classifier-free guidance, {prior.name}, one core"
    return Figure(what, times["dreamlab"], "ms", Goal(PAIR_GOAL, "≤"), times)


def _share_of_guidance(
    trainer: StageTrainer, start: Snapshot, guidance: Guidance, repeats: int
) -> Figure:
    """Compare whole steps with as many judgements of ready pictures, back to their pixels."""
    stage = trainer.stage
    cameras = stage.view_around(stage.config.views)
    size = stage.config.size_at(1.0)
    picture = stage.render(cameras, size, size)

    def judge() -> None:
        for step in range(start.position.step, start.position.step + STEPS):
            render = replace(picture, rgb=picture.rgb.clone().requires_grad_())
            generator = seeds.generator(stage.seed, "judge", step)
            guidance(render, cameras, stage.progress_at(step), generator).loss.backward()

    times = medians(
        {"whole steps": partial(_turn, trainer, start), "guidance only": judge}, repeats
    )
    what = f"{STEPS} training steps over their guidance alone, {_describe(stage)}"
    value = times["whole steps"] / times["guidance only"]
    goal = GUIDANCE_GOALS.get(stage.config.renderer["name"], max(GUIDANCE_GOALS.values()))
    return Figure(what, value, "×", Goal(goal, "≤"), times)


def _against_torch(stage: Stage, start: Snapshot, repeats: int) -> Figure:
    """Compare steps without guidance with the same ones on plain torch."""

    def turn_on(backend: Literal["warp", "reference"]) -> Call:
        config = on_backend(stage.config, backend)
        twin = Stage(
            stage.name, config, Picture(), seed=stage.seed, device=CPU, layout=stage.layout
        )
        return partial(_turn, StageTrainer(twin, 0), start)

    what = f"{STEPS} training steps without guidance, {_describe(stage)}"
    return speedup(what, turn_on("warp"), turn_on("reference"), NERF_GOAL, repeats)


def on_backend(config: StageConfig, backend: Literal["warp", "reference"]) -> StageConfig:
    """Return the stage with its representation and its renderer on one backend."""
    return replace(
        config,
        representation={**config.representation, "backend": backend},
        renderer={**config.renderer, "backend": backend},
    )


def _turn(trainer: StageTrainer, start: Snapshot) -> None:
    """Take the steps of a turn; going back to the start takes a hundredth of that."""
    trainer.load(start)
    _advance(trainer, STEPS)


def _advance(trainer: StageTrainer, num_steps: int) -> None:
    for _ in range(num_steps):
        _, problem = trainer.advance()
        if problem is not None:
            raise DivergedError(
                f"the timed training went bad at step {trainer.step}: {problem}.",
                "train for more steps before timing, or with another seed.",
            )


def _describe(stage: Stage) -> str:
    size = stage.config.size_at(1.0)
    name = stage.config.representation["name"]
    return f"{name}, batch of {stage.config.views}, {size}x{size} px"
