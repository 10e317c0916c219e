"""A real run at toy size, shared by the tests that look at what it left behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_models import save_tiny_pipeline

from dreamlab.core.run_folder import RunFolder

SMALL = (
    "stages.gaussians.steps=6",
    "stages.gaussians.milestones=[{until: 1.0, size: 16}]",
    "stages.gaussians.representation.count=500",
    "stages.gaussians.representation.radius=0.5",
    "stages.gaussians.representation.opacity=0.5",  # opaque before the first step
    "stages.mesh.steps=2",
    "stages.mesh.milestones=[{until: 1.0, size: 16}]",
    "stages.mesh.representation.resolution=12",
    "stages.mesh.representation.grid.log2_table_size=10",
    "export.resolution=48",
    "export.max_faces=1500",
    "export.texture_size=256",
    "export.unwrap=box",
)
"""Overrides that bring a run down to seconds."""


@contextmanager
def coarse_handover() -> Iterator[None]:
    """What a stage takes over from another is coarse here; its own tests look at its quality."""
    from dreamlab.representations import colors
    from dreamlab.systems import surface

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(colors, "STEPS", 10)
        patch.setattr(surface, "OUTLINE_SIZE", 32)
        yield


@pytest.fixture(autouse=True)
def quick_handover():
    with coarse_handover():
        yield


@dataclass(frozen=True)
class Run:
    """A finished run and what was said while it ran."""

    folder: RunFolder
    outcome: object
    events: list


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A diffusion pipeline of real classes and random weights."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="session")
def small_settings(tiny_model) -> list[str]:
    """Overrides for a run of seconds with the tiny model."""
    return [f"prior.model={tiny_model}", *SMALL]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, small_settings) -> Run:
    """A complete run of the default recipe at toy size."""
    from dreamlab.jobs import export, views
    from dreamlab.jobs.generate import generate, prepare
    from dreamlab.jobs.recipes import load_recipe

    with coarse_handover(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "FRAMES", 4)
        patch.setattr(views, "MESH_SIZE", 64)
        patch.setattr(views, "SHEET_SIZE", 48)
        patch.setattr(export, "REFERENCE_SIZE", 64)
        config = load_recipe("toybox", "draft", small_settings, prompt="a red mushroom", seed=5)
        folder = prepare(config, tmp_path_factory.mktemp("runs"))
        events: list = []
        outcome = generate(config, folder, device="cpu", on_event=events.append)
    return Run(folder, outcome, events)
