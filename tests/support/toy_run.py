"""A run at toy size on an analytic prior: a ball on white whose colour depends on the view word."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from analytic import GaussianPrior
from torch import Tensor

from dreamlab.core.config import build
from dreamlab.core.run_folder import RunFolder
from dreamlab.priors.base import Prediction
from dreamlab.systems.settings import StageConfig
from dreamlab.training.events import Event
from dreamlab.training.loop import Trained, train
from dreamlab.training.stop import StopFlag

RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)
PURPLE = (0.5, 0.1, 0.5)
BALL_RADIUS = 0.55
DISTANCE, FOV = 3.0, 42.0


def color_of(prompt: str) -> tuple[float, float, float]:
    """Red from the front, blue from the back, between them from the side."""
    if "front" in prompt:
        return RED
    return BLUE if "back" in prompt else PURPLE


def silhouette(size: int) -> Tensor:
    """The ball's outline seen from DISTANCE with FOV, [size size] of zeros and ones."""
    slope = math.tan(math.radians(FOV / 2))
    radius = BALL_RADIUS / math.sqrt(DISTANCE**2 - BALL_RADIUS**2) / slope
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return (x**2 + y**2 < radius**2).float()


class BallPrior(GaussianPrior):
    """The mean image of a prompt is a disc of its colour on white."""

    def __init__(self, image_size: int = 16) -> None:
        mean = lambda prompt: [2 * channel - 1 for channel in color_of(prompt)]  # noqa: E731
        super().__init__(mean, std=0.1, image_size=image_size, name="ball", identity="ball")

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Tensor) -> Prediction:
        inside = silhouette(self.image_size)
        mean = conditioning[:, 0, :, None, None] * inside + (1 - inside)
        alpha, sigma = self.alpha_sigma(t)
        eps = sigma * (noisy - alpha * mean) / (alpha**2 * self.std**2 + sigma**2)
        x0 = (noisy - sigma * eps) / alpha
        return Prediction(eps, x0, alpha * eps - sigma * x0)


def toy_stage(**changes: Any) -> StageConfig:
    settings: dict[str, Any] = {
        "steps": 12,
        "representation": {
            "name": "hashgrid",
            "grid": {
                "num_levels": 4,
                "log2_table_size": 12,
                "base_resolution": 4,
                "finest_resolution": 24,
            },
            "hidden_width": 16,
            "blob_radius": 0.4,
        },
        "renderer": {
            "name": "volume",
            "steps_per_diagonal": 48,
            "occupancy_resolution": 16,
            "background": {"name": "solid"},
        },
        "guidance": {"name": "sds", "guidance_scale": 1.0, "weighting": "x0"},
        "cameras": {
            "elevation": [0.0, 0.0],
            "distance": [DISTANCE, DISTANCE],
            "fov_y": [FOV, FOV],
        },
        "milestones": [{"until": 1.0, "size": 16}],
        "losses": {"opacity_entropy": 0.01},
    }
    return build(StageConfig, settings | changes)


def toy_train(root: Path, stages: dict[str, StageConfig] | None = None, **options: Any) -> Trained:
    root.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "prompt": "a ball",
        "negative_prompt": "",
        "prior": BallPrior(),
        "seed": 0,
        "folder": RunFolder(root),
        "device": torch.device("cpu"),
    }
    return train(stages or {"nerf": toy_stage()}, **settings | options)


class Losses:
    """Listener that keeps the loss of every step, and may act on it."""

    def __init__(self, act: Callable[[Event], None] = lambda event: None) -> None:
        self.of: dict[tuple[str, int], float] = {}
        self.act = act

    def __call__(self, event: Event) -> None:
        if event.kind == "step":
            self.of[event.values["stage"], event.values["step"]] = event.values["loss"]
        self.act(event)


def stop_after(stop: StopFlag, at: tuple[str, int]) -> Callable[[Event], None]:
    def act(event: Event) -> None:
        if event.kind == "step" and (event.values["stage"], event.values["step"]) == at:
            stop.set()

    return act
