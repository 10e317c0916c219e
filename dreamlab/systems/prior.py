"""The prior of a run, loaded with all that its stages ask of it: ControlNets, and room to step."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from dreamlab.core.layout import Layout
from dreamlab.guidance.learning import LearningConfig
from dreamlab.guidance.rows import rows_per_view
from dreamlab.priors.base import Prior
from dreamlab.priors.footprint import CODINGS, Coding, Demand
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.systems import components
from dreamlab.systems.prior_fit import is_latent
from dreamlab.systems.settings import StageConfig


def load_for_stages(
    config: PriorConfig,
    stages: Sequence[StageConfig],
    device: torch.device,
    layout: Layout | None = None,
) -> Prior:
    """Load the model of a run.

    Args:
        config: the model, and how it is run.
        stages: of the run; they name ControlNets, and say how much memory a step needs.
        device: where it is run.
        layout: of the run; a view is judged under the prompts of its objects.

    Raises:
        InputError: as of `load_prior`, or a stage's guidance is unknown or wrong.
        MissingError: the model, or what steers it, cannot be had.
    """
    controls = [control.model for stage in stages for control in stage.controls]
    return load_prior(config, device, [demand_of(stage, layout) for stage in stages], controls)


def demand_of(stage: StageConfig, layout: Layout | None = None) -> Demand:
    """Return what a step of a stage asks of the prior, at any progress.

    All codings are counted for a rule that does not say which it needs.

    Raises:
        InputError: its guidance is unknown, or one of its settings is wrong.
    """
    config = components.find("guidance", stage.guidance).config
    prompts = 1 if layout is None else stage.passes.most_prompts(len(layout))
    codings: tuple[Coding, ...] = getattr(config, "codings", CODINGS)
    if is_latent(stage.representation["name"]):
        codings = (*(coding for coding in codings if coding == "decode"), "show")
    elif stage.encoder_gradient == "linear":
        codings = tuple(coding for coding in codings if coding != "back")
    rows = rows_per_view(config, stage.prompts, prompts)
    demand = Demand(stage.views, rows, codings=codings)
    if not isinstance(config, LearningConfig):
        return demand
    return replace(demand, lora=config.lora, learned_model=config.learned_model)
