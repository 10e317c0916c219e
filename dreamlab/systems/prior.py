"""The prior of a run, loaded with all that its stages ask of it: ControlNets, and room to step."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from dreamlab.core.config import Plain
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
    demands = [demand for stage in stages for demand in demands_of(stage, layout)]
    return load_prior(config, device, demands, controls)


def demands_of(stage: StageConfig, layout: Layout | None = None) -> list[Demand]:
    """Return what the rules of a stage ask of the prior, one after another, at any progress.

    All codings are counted for a rule that does not say which it needs. Where one of several rules
    learns on a second model, that is in memory while the others judge.

    Raises:
        InputError: a rule is unknown, or one of its settings is wrong.
    """
    demands = [_demand_of(rule, stage, layout) for rule in stage.rules.values()]
    second = next((d.learned_model for d in demands if d.learned_model is not None), None)
    return [d if d.lora is not None else replace(d, learned_model=second) for d in demands]


def _demand_of(rule: Plain, stage: StageConfig, layout: Layout | None) -> Demand:
    config = components.find("guidance", rule).config
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
