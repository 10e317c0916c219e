"""Which components fit together in a stage, asked of the components themselves.

Nothing here lists pairs. A representation fits a renderer if that renderer can be built on it, and
a stage fits its recipe if it can be built with its settings and take over what it starts from: the
same checks that a run would meet, with the same words.
"""

import functools
from collections.abc import Mapping

import torch

from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.systems import components
from dreamlab.systems.guidance import check_reference
from dreamlab.systems.handover import way_to_continue
from dreamlab.systems.prior_fit import is_latent
from dreamlab.systems.settings import PREVIOUS, StageConfig
from dreamlab.systems.stage import Stage

CPU = torch.device("cpu")


@functools.cache
def renderers_of(representation: str) -> tuple[str, ...]:
    """List the renderers that can show a representation of this package, with default settings."""
    part = components.find("representations", {"name": representation})
    field = part.module.build(part.config, torch.Generator())
    found: list[str] = []
    for name in components.available("renderers"):
        renderer = components.find("renderers", {"name": name})
        try:
            renderer.module.build(renderer.config, field, torch.Generator())
        except InputError:
            continue
        found.append(name)
    return tuple(found)


def check_rule(stages: Mapping[str, StageConfig], name: str) -> None:
    """Refuse a stage whose guidance cannot judge what it makes; arguments as for `check_object`.

    Raises:
        InputError: what a run with these settings would end with.
    """
    config = stages[name]
    check_reference(name, config)
    for rule in config.rules.values():
        if "reference_prompt" in rule and is_latent(config.representation["name"]):
            raise InputError(
                f"the guidance {rule['name']} compares pictures, and a "
                f"{config.representation['name']} is latents.",
                f"set stages.{name}.representation.name to image.",
            )


def check_object(
    stages: Mapping[str, StageConfig], name: str, layout: Layout | None = None
) -> None:
    """Refuse a stage that cannot be built, begin, or hand its object to the stage after it.

    Args:
        stages: all of a run, in order, resolved.
        name: of the stage.
        layout: of the run.

    Raises:
        InputError: what a run with these settings would end with.
    """
    names = list(stages)
    place = names.index(name)
    stage = _built(name, stages[name], layout)
    if stages[name].start_from == PREVIOUS and place > 0:
        before = names[place - 1]
        way_to_continue(stage, _built(before, stages[before], layout))
    if place + 1 < len(names) and stages[names[place + 1]].start_from == PREVIOUS:
        after = names[place + 1]
        way_to_continue(_built(after, stages[after], layout), stage)


def _built(name: str, config: StageConfig, layout: Layout | None) -> Stage:
    return Stage(name, config, None, seed=0, device=CPU, layout=layout)
