"""The whole measurement of speed, figure by figure, and what it was taken on."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from dreamlab.evaluation.speed.figures import Figure
from dreamlab.evaluation.speed.kernels import kernel_figures
from dreamlab.evaluation.speed.main_job import main_job_figures, prior_pair
from dreamlab.evaluation.speed.surfaces import surface_figures
from dreamlab.jobs.machine import machine_class, versions
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE
from dreamlab.jobs.recipes import SAMPLE_PROMPT, load_recipe

NERF_RECIPE = "toybox-nerf"
"""Always timed, since it is what is compared with plain torch."""


@dataclass(frozen=True, slots=True)
class SpeedConfig:
    """What is timed, and how often."""

    recipe: str = DEFAULT_RECIPE
    """Its stages are timed, and those of `toybox-nerf`; a name, or the path of a .yaml file."""
    overrides: tuple[str, ...] = ()
    """Settings of the recipe to change, as key=value."""
    points: int = 160_000
    """Points that the hash grid encodes."""
    gaussians: int = 20_000
    """Gaussians that are splatted."""
    cells: int = 51
    """Cells an axis of the tetrahedral grid that is marched; it has 12 n^3 tetrahedra."""
    warm_up: int = 100
    """Training steps before the stage is timed."""
    repeats: int = 5
    """Timed calls of everything, at least; figures are their medians."""

    def __post_init__(self) -> None:
        for name in ("points", "gaussians", "cells", "warm_up", "repeats"):
            least = 2 if name == "cells" else 1
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


def measure(config: SpeedConfig) -> Iterator[Figure]:
    """Take all figures, on the CPU and one thread unless a figure says otherwise.

    Raises:
        InputError: the recipe or an override is refused.
        DivergedError: a training step went bad.
        MissingError: the recipe's prior cannot be had.
    """
    run = load_recipe(config.recipe, overrides=config.overrides, prompt=SAMPLE_PROMPT)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from kernel_figures(config.points, config.repeats)
        yield from surface_figures(config.gaussians, config.cells, config.repeats)
        yield prior_pair(run, config.repeats)
        yield from main_job_figures(run, config.warm_up, config.repeats)
        if config.recipe != NERF_RECIPE:
            nerf = load_recipe(NERF_RECIPE, prompt=SAMPLE_PROMPT)
            yield from main_job_figures(nerf, config.warm_up, config.repeats)
    finally:
        torch.set_num_threads(threads)


def machine() -> dict[str, Any]:
    """Describe the machine, how busy it is (`load`: processes that want a core), and versions."""
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return machine_class() | {"load": load, "versions": versions()}
