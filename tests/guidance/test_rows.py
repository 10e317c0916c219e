"""The rows and codings that memory is counted with are those that the prior is asked for."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from guided_views import as_render, cameras_at
from learned_gaussian import LearnableGaussianPrior
from rules import CASES, MEANS, STD, VIEW_MEANS, begin
from torch import Tensor
from toy_run import toy_stage

from dreamlab.core.layout import Box, Layout
from dreamlab.core.render import Render
from dreamlab.guidance.learning import LearningConfig
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.rows import rows_per_view
from dreamlab.guidance.semantic import SemanticConfig, SemanticPrompts, num_prompts
from dreamlab.systems.components import available, find
from dreamlab.systems.prior import demands_of

VIEWS = 2
CAMERAS = cameras_at([10.0, -60.0])
RULES: dict[str, dict[str, Any]] = {
    **{case: {"name": chosen.name, **chosen.options} for case, chosen in CASES.items()},
    "csd from the empty prompt": {"name": "csd"},
    "csd that moves": {"name": "csd", "negative_share": {"from": 0.0, "to": 1.0}},
    "nfsd without guidance": {"name": "nfsd", "scale": 1.0},
    "sdedit": {"name": "sdedit", "t_start": 0.1},
}
PROMPTS = {
    "plain": PromptConfig(view="none"),
    "perp_neg": PromptConfig(view="perp_neg"),
    "repeated": PromptConfig(view="words", negative="bad {prompt}"),
    "both": PromptConfig(view="perp_neg", negative="bad {prompt}"),
}
SIZE = (0.5, 0.5, 0.5)
BOXES = Layout(tuple(Box(text, (0.0, y, 0.0), SIZE) for text, y in (("cat", -0.5), ("dog", 0.5))))


def mean_of(prompt: str) -> tuple[float, float, float]:
    return (MEANS | VIEW_MEANS).get(prompt, (0.1, 0.2, 0.3))


def widest_call(settings: dict[str, Any], config: PromptConfig, shown: tuple[int, ...]) -> int:
    """Rows of a view in the widest call of a step's; `shown`: objects of the layout, if any."""
    prior = LearnableGaussianPrior(mean_of, std=STD)
    texts = ("cat", "ugly", config)
    prompts = Prompts.encode(prior, *texts)
    if shown:
        prompts = SemanticPrompts.of_layout(
            prior, BOXES, texts[0], texts[1], config, SemanticConfig()
        )
    found = find("guidance", settings)
    rule = found.module.build(found.config, prior, prompts)
    begin(rule, prior, "ugly", config)
    prior.calls.clear()
    rule(as_shown(shown), CAMERAS, 0.5, torch.Generator().manual_seed(0))
    rows = max(count for name, count in prior.calls if name == "predict")
    assert rows % VIEWS == 0
    return rows // VIEWS


def as_shown(shown: tuple[int, ...]) -> Render:
    regions = torch.zeros(VIEWS, 8, 8, 2)
    regions[:, :, :3, 0] = regions[:, :, -3:, 1] = 1.0
    render = as_render(torch.rand(VIEWS, 8, 8, 3, requires_grad=True))
    seen = {"regions": regions, "shown": shown} if shown else {}
    assert render.reference is not None
    return replace(render, **seen, reference=replace(render.reference, **seen))


@pytest.mark.parametrize("view", PROMPTS)
@pytest.mark.parametrize("rule", RULES)
def test_the_rows_that_a_rule_says_are_those_of_its_widest_call(rule: str, view: str):
    config = find("guidance", RULES[rule]).config
    assert widest_call(RULES[rule], PROMPTS[view], ()) == rows_per_view(config, PROMPTS[view])


@pytest.mark.parametrize("view", PROMPTS)
@pytest.mark.parametrize("rule", ["sds", "csd", "ssd", "vsd", "sdedit"])
@pytest.mark.parametrize("shown", [(1,), (0, 1)])
def test_prompts_of_objects_have_rows_of_their_own(rule: str, view: str, shown: tuple[int, ...]):
    config = find("guidance", RULES[rule]).config
    prompts = num_prompts(len(shown), len(BOXES))
    assert prompts == (1 if len(shown) == 1 else 3), "the scene has one of its own"
    expected = rows_per_view(config, PROMPTS[view], prompts)
    assert widest_call(RULES[rule], PROMPTS[view], shown) == expected


class Coding(LearnableGaussianPrior):
    """Also notes which encodings have a way back."""

    def encode_image(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        latents = super().encode_image(images, generator)
        if latents.requires_grad:
            self.calls.append(("back", len(latents)))
        return latents


CODED = {"encode_image": "encode", "back": "back", "decode": "decode"}
WEIGHTS: dict[str, dict[str, Any]] = {
    "latents": {},
    "both": {"image_weight": {"from": 0.0, "to": 0.01}},
    "pixels": {"latent_weight": 0.0, "image_weight": 1.0},
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("rule", RULES)
def test_the_codings_that_a_rule_says_are_those_of_a_step(rule: str, weights: str):
    settings = dict(RULES[rule])
    if settings["name"] != "sdedit":  # which has one loss
        settings |= WEIGHTS[weights]
    prior, config = Coding(mean_of, std=STD), PROMPTS["plain"]
    prompts = Prompts.encode(prior, "cat", "ugly", config)
    found = find("guidance", settings)
    built = found.module.build(found.config, prior, prompts)
    begin(built, prior, "ugly", config)
    built(as_shown(()), CAMERAS, 0.5, torch.Generator().manual_seed(0))
    asked = {CODED[name] for name, _ in prior.calls if name in CODED}
    assert asked == set(demands_of(toy_stage(guidance=settings))[0].codings)


def test_a_rule_that_uses_the_render_as_latents_codes_nothing():
    (demand,) = demands_of(toy_stage(guidance={"name": "sds", "sees": "shape"}))
    assert demand.codings == ()


def test_every_rule_says_its_codings_its_rows_and_those_that_learn_what_they_train():
    names = set(available("guidance")) - {"sum"}  # which calls the denoiser through its rules
    configs = {name: find("guidance", {"name": name}).config for name in names}
    assert {settings["name"] for settings in RULES.values()} == configs.keys()
    assert all(hasattr(config, "widest") for config in configs.values())
    assert all(hasattr(config, "codings") for config in configs.values())
    learning = {name for name, config in configs.items() if isinstance(config, LearningConfig)}
    assert learning == {"vsd"}


def test_settings_that_say_nothing_are_counted_with_all_groups():
    assert rows_per_view(object(), PROMPTS["plain"]) == 3
    assert rows_per_view(object(), PROMPTS["both"], 2) == 2 + 2 + 1 + 4
