"""From a stage's settings to its guidance, with all texts embedded."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from dreamlab.core import seeds
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.core.schedules import ends
from dreamlab.guidance.base import Guidance
from dreamlab.guidance.comparing import Comparing
from dreamlab.guidance.controls import ControlledPrompts
from dreamlab.guidance.learning import Learning
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.semantic import SemanticPrompts
from dreamlab.priors.base import Prior, guidance_limit
from dreamlab.priors.controlnet import Controllable
from dreamlab.priors.learner import load_learner
from dreamlab.priors.traits import traits_of
from dreamlab.systems import components
from dreamlab.systems.prior_fit import check_prior
from dreamlab.systems.settings import StageConfig

logger = logging.getLogger(__name__)


def build_guidance(
    name: str,
    config: StageConfig,
    prior: Prior,
    *,
    prompt: str,
    negative_prompt: str,
    seed: int,
    cache_dir: Path | None = None,
    layout: Layout | None = None,
) -> Guidance:
    """Build the guidance of the stage `name`; one that learns is begun.

    Args:
        name: of the stage; what is learned begins with values that follow from it and `seed`.
        config: the stage's settings.
        prior: the image model that guides.
        prompt: what to make.
        negative_prompt: what to avoid; may be empty.
        seed: of everything random.
        cache_dir: where text embeddings are kept; None: nowhere.
        layout: objects with prompts of their own; what a rule learns hears the scene's alone, and
            sees nothing of what ControlNets see.

    Raises:
        InputError: the guidance or one of its settings is wrong, or does not fit the prior.
        MissingError: a second model, which learns, cannot be had.
    """
    scene = prompt if layout is None or layout.prompt is None else layout.prompt

    def shown(prompts: Prompts) -> Prompts:
        if not config.controls:
            return prompts
        _check_loaded(config, prior)
        return ControlledPrompts(prompts, config.controls, prior.image_size)

    component = components.find("guidance", config.guidance, f"stages.{name}.guidance")
    check_prior(name, config, traits_of(prior))
    _warn_of_guidance(component.config, prior, f"stages.{name}.guidance")
    if layout is None:
        prompts = Prompts.encode(prior, scene, negative_prompt, config.prompts, cache_dir)
    else:
        texts = (scene, negative_prompt, config.prompts)
        prompts = SemanticPrompts.of_layout(prior, layout, *texts, config.semantic, cache_dir)
    guidance = component.module.build(component.config, prior, shown(prompts))
    if isinstance(guidance, Comparing):
        texts = (guidance.reference_prompt, negative_prompt, config.prompts)
        guidance.compare_with(shown(Prompts.encode(prior, *texts, cache_dir)))
    if isinstance(guidance, Learning):
        other = guidance.learned_model
        learner = prior if other is None else load_learner(other, prior)
        is_plain = layout is None and config.prompts.view == "none" and other is None
        texts = (scene, negative_prompt, replace(config.prompts, view="none"))
        plain = prompts if is_plain else Prompts.encode(learner, *texts, cache_dir)
        guidance.begin(learner, plain, seeds.generator(seed, name, "learned by the guidance"))
    return guidance


def _check_loaded(config: StageConfig, prior: Prior) -> None:
    loaded = prior.controls if isinstance(prior, Controllable) else {}
    missing = [control.model for control in config.controls if control.model not in loaded]
    if missing:
        raise ValueError(f"the prior was loaded without the ControlNets {', '.join(missing)}")


def check_reference(name: str, config: StageConfig) -> None:
    """Refuse a rule that compares with what the stage begins with, if that is not known.

    Raises:
        InputError: the stage `name` begins with nothing, or it is not said what that is.
    """
    if "reference_prompt" not in config.guidance:
        return
    rule = config.guidance["name"]
    if config.start_from is None:
        raise InputError(
            f"stage {name!r} has the guidance {rule}, which changes an object, and starts afresh.",
            f"set stages.{name}.start_from to a model (such as chair.glb), or to previous.",
        )
    if not config.guidance["reference_prompt"].strip():
        raise InputError(
            f"stage {name!r} has the guidance {rule}, and it is not said what the object is now.",
            f'set stages.{name}.guidance.reference_prompt, such as "a red chair".',
        )


def _warn_of_guidance(config: Any, prior: Prior, where: str) -> None:
    """Log a warning if a rule's guidance scale is more than a distilled prior stands."""
    limit, scale = guidance_limit(prior), getattr(config, "guidance_scale", None)
    if limit is None or scale is None:
        return
    largest = max(ends(scale))
    if largest > limit:
        logger.warning(
            "%s is a distilled model that stands guidance scales up to %g, and "
            "%s.guidance_scale is %g: expect burnt colours.",
            prior.name,
            limit,
            where,
            largest,
        )
