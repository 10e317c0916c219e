"""From a stage's settings to its guidance, with all texts embedded."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from dreamlab.core import seeds
from dreamlab.core.config import Plain
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
    """Build the guidance of the stage `name`; rules that learn are begun.

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
    where = f"stages.{name}.guidance"
    component = components.find("guidance", config.guidance, where)
    check_prior(name, config, traits_of(prior))
    scene = prompt if layout is None or layout.prompt is None else layout.prompt
    builder = _Builder(name, config, prior, scene, negative_prompt, seed, cache_dir, layout)
    settings = components.rules_in(component.plain, where)
    rules = [builder.rule(index, *item) for index, item in enumerate(settings.items())]
    if component.name != components.SUM:
        return rules[0]
    named = dict(zip(component.config.rules, rules, strict=True))
    return component.module.build(component.config, named, prior)


@dataclass(frozen=True)
class _Builder:
    """Builds the rules of a stage, with what all of them have in common."""

    name: str
    config: StageConfig
    prior: Prior
    scene: str
    """What the whole picture is told to be."""
    negative_prompt: str
    seed: int
    cache_dir: Path | None
    layout: Layout | None

    def rule(self, index: int, where: str, settings: Plain) -> Guidance:
        """Build a rule; one alone is the first.

        Args:
            index: its place among the rules.
            where: dotted path of `settings`, for messages.
            settings: its own, with its name.
        """
        found = components.find("guidance", settings, where)
        _warn_of_guidance(found.config, self.prior, where)
        rule = found.module.build(found.config, self.prior, self.heard)
        if isinstance(rule, Comparing):
            rule.compare_with(self.shown(self.encoded(self.prior, rule.reference_prompt)))
        if isinstance(rule, Learning):
            self.begin(rule, index)
        return rule

    @cached_property
    def prompts(self) -> Prompts:
        """What the prior is told."""
        if self.layout is None:
            return self.encoded(self.prior, self.scene)
        texts = (self.scene, self.negative_prompt, self.config.prompts)
        given = (self.layout, *texts, self.config.semantic, self.cache_dir)
        return SemanticPrompts.of_layout(self.prior, *given)

    @cached_property
    def heard(self) -> Prompts:
        """The same with what ControlNets see."""
        return self.shown(self.prompts)

    def shown(self, prompts: Prompts) -> Prompts:
        """Add the pictures that ControlNets see, if the stage has some."""
        if not self.config.controls:
            return prompts
        _check_loaded(self.config, self.prior)
        return ControlledPrompts(prompts, self.config.controls, self.prior.image_size)

    def encoded(self, prior: Prior, prompt: str, *, words: bool = True) -> Prompts:
        """Embed a prompt beside the negative one, with the stage's words for views or without."""
        config = self.config.prompts if words else replace(self.config.prompts, view="none")
        return Prompts.encode(prior, prompt, self.negative_prompt, config, self.cache_dir)

    def begin(self, rule: Learning, index: int) -> None:
        """Let a rule make what it trains."""
        learner = self.learners(rule.learned_model)
        is_plain = self.layout is None and self.config.prompts.view == "none"
        is_told = is_plain and learner is self.prior
        plain = self.prompts if is_told else self.encoded(learner, self.scene, words=False)
        key = (index,) if index else ()  # one rule alone begins as the first of many does
        initial = seeds.generator(self.seed, self.name, "learned by the guidance", *key)
        rule.begin(learner, plain, initial)

    @cached_property
    def learners(self) -> Callable[[str | None], Prior]:
        """Load a second model; once, whoever learns on it. None: the prior."""
        return cache(lambda model: self.prior if model is None else load_learner(model, self.prior))


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
    for place, settings in config.rules.items():
        if "reference_prompt" not in settings:
            continue
        rule = settings["name"]
        if config.start_from is None:
            raise InputError(
                f"stage {name!r} has the guidance {rule}, which changes an object, and starts "
                "afresh.",
                f"set stages.{name}.start_from to a model (chair.glb), to previous, or, where a "
                "picture is made, to a picture (chair.png).",
            )
        if not settings["reference_prompt"].strip():
            raise InputError(
                f"stage {name!r} has the guidance {rule}, and it is not said what the object is "
                "now.",
                f'set stages.{name}.{place}.reference_prompt, such as "a red chair".',
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
