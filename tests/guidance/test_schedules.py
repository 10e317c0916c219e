"""Which numbers of guidance may be schedules, and that each of them then acts by its value."""

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
import torch
from guided_views import as_render, cameras_at
from learned_gaussian import LearnableGaussianPrior
from rules import CASES, MEANS, STD
from torch import Tensor

from dreamlab.core.config import build
from dreamlab.core.layout import Box, Layout
from dreamlab.core.render import Render
from dreamlab.core.schedules import Schedule
from dreamlab.guidance.controls import ControlConfig, ControlledPrompts
from dreamlab.guidance.learning import Learning
from dreamlab.guidance.pgc import PixelGradientConfig
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.semantic import SemanticConfig, SemanticPrompts
from dreamlab.systems.components import available, find

CAMERAS = cameras_at([10.0, -60.0])
PLAIN = PromptConfig(view="none")
BESIDE = {
    "prompts": PromptConfig,
    "semantic": SemanticConfig,
    "controls": ControlConfig,
    "pixel_gradient": PixelGradientConfig,
}
FIXED = {
    "csd.stride",  # decide how many evaluations a step has
    "ism.stride",
    "vsd.lora.scale",  # is part of a network
    "semantic.margin",  # sizes and angles
    "prompts.front_angle",
    "prompts.back_angle",
    "prompts.overhead_elevation",
}
MIDDLE: dict[str, dict[str, float]] = {
    "sds": {
        "latent_weight": 2.0,
        "image_weight": 0.5,
        "gradient_clip": 0.2,
        "guidance_scale": 5.0,
        "parallel": 0.5,
        "cfg_rescale": 0.5,
    },
    "csd": {"scale": 3.0, "negative_share": 0.5},
    "nfsd": {"scale": 7.5, "clean_below": 0.5},
    "ssd": {"scale": 7.5, "steady_below": 0.5},
    "asd": {"shift": 0.3},
    "ism": {"interval": 0.1},
    "sdi": {"inversion_scale": -5.0, "inversion_eta": 0.3},
    "sdedit": {"guidance_scale": 5.0, "cfg_rescale": 0.5, "t_start": 0.4},
    "vsd": {"guidance_scale": 5.0, "learning_rate": 0.1, "camera_dropout": 0.5},
}
"""A value for every scalar; what rules share is tried with `sds`."""


def numbers_of(cls: type, where: str) -> Iterator[tuple[str, bool]]:
    """Dotted names of all numbers of a configuration, and whether each may be a schedule."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, name = hints[field.name], f"{where}.{field.name}"
        options = get_args(hint) or (hint,)
        nested = [option for option in options if dataclasses.is_dataclass(option)]
        if float in options:
            yield name, Schedule in options
        elif nested:
            assert isinstance(nested[0], type)
            yield from numbers_of(nested[0], name)


def all_numbers() -> dict[str, bool]:
    configs = {name: type(find("guidance", {"name": name}).config) for name in RULES} | BESIDE
    return dict(pair for name, cls in configs.items() for pair in numbers_of(cls, name))


RULES = available("guidance")


def test_every_number_of_guidance_may_be_a_schedule_but_for_those_that_are_listed():
    numbers = all_numbers()
    assert {name for name, may_move in numbers.items() if not may_move} == FIXED
    shared = {f.name for f in dataclasses.fields(find("guidance", {"name": "sds"}).config)}
    tried = {f"{rule}.{key}" for rule, keys in MIDDLE.items() for key in keys}
    own = {
        name
        for name, may_move in numbers.items()
        if may_move and name.partition(".")[0] in RULES and ".timesteps." not in name
    }
    inherited = {name for name in own - tried if name.rpartition(".")[2] in shared}
    assert own - inherited == tried, "every one that a rule has for itself is tried below"


def gradient(name: str, progress: float, **settings: Any) -> Tensor:
    """Of the second of two calls, since what a rule learns shows a call later."""
    prior = LearnableGaussianPrior(MEANS.__getitem__, std=STD)
    options = CASES[name].options if name in CASES and name != "vsd" else {}
    found = find("guidance", {"name": name, **options, **settings})
    prompts = Prompts.encode(prior, "cat", "ugly", PLAIN)
    rule = found.module.build(found.config, prior, prompts)
    if isinstance(rule, Learning):
        rule.begin(prior, prompts, torch.Generator().manual_seed(0))
    for call in range(1 + isinstance(rule, Learning)):
        rgb = torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(1))
        rgb = rgb.requires_grad_(True)
        generator = torch.Generator().manual_seed(3 + call)
        loss = rule(as_render(rgb), CAMERAS, progress, generator).loss
        result = torch.autograd.grad(loss, rgb)[0]
    return result


@pytest.mark.parametrize(
    ("name", "key", "middle"),
    [(name, key, middle) for name, keys in MIDDLE.items() for key, middle in keys.items()],
)
def test_a_schedule_acts_as_the_number_that_it_is_at_the_moment(name: str, key: str, middle: float):
    moving = {"from": 0.2 * middle, "to": 1.8 * middle}
    constant = gradient(name, 0.5, **{key: middle})
    torch.testing.assert_close(gradient(name, 0.5, **{key: moving}), constant)
    assert not torch.allclose(gradient(name, 0.0, **{key: moving}), constant, atol=1e-4)


def in_regions(render: Render) -> Render:
    regions = torch.zeros(*render.rgb.shape[:3], 2)
    regions[:, :, :2, 0] = regions[:, :, -2:, 1] = 1.0
    return dataclasses.replace(render, regions=regions, shown=(0, 1))


def test_shares_of_prompts_and_strengths_of_controlnets_follow_the_stage():
    prior = LearnableGaussianPrior(MEANS.__getitem__, std=STD)
    boxes = [
        Box(text, (0.0, y, 0.0), (0.5, 0.5, 0.5)) for text, y in (("cat", -0.5), ("ugly", 0.5))
    ]
    share = build(SemanticConfig, {"scene_share": {"from": 0.0, "to": 1.0}})
    texts = SemanticPrompts.of_layout(prior, Layout(tuple(boxes)), "cat", "", PLAIN, share)
    strength = build(ControlConfig, {"model": "net", "strength": {"from": 1.0, "to": 0.0}})
    prompts = ControlledPrompts(texts, (strength, ControlConfig("other", strength=2.0)), 8)
    render = in_regions(as_render(torch.rand(2, 8, 8, 3)))
    for progress in (0.0, 0.25, 1.0):
        told = prompts.for_views(CAMERAS, render, progress)
        assert told.shares is not None and told.control is not None
        torch.testing.assert_close(told.shares[:, -1, :, 0], torch.full((2, 8), progress))
        assert told.control.strengths == (1.0 - progress, 2.0)
    with pytest.raises(ValueError, match="only at a progress"):
        prompts.for_views(CAMERAS, render)
