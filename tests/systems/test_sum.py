"""Claims about stages with several rules: their steps, their state, and what is refused."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from five_steps import begin, check
from learned_gaussian import LearnableGaussianPrior
from toy_run import toy_stage

from dreamlab.core.config import build, to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Box, Layout
from dreamlab.guidance.sum import Sum
from dreamlab.jobs.recipes import load_recipe, words_unknown_to_prior
from dreamlab.jobs.settings import list_settings
from dreamlab.priors.traits import Traits
from dreamlab.systems.fitting import check_rule
from dreamlab.systems.guidance import build_guidance
from dreamlab.systems.prior_fit import check_prior
from dreamlab.systems.settings import StageConfig
from dreamlab.systems.stage import Stage
from dreamlab.training.trainer import StageTrainer

CPU = torch.device("cpu")
SIZE = (0.6, 0.6, 0.6)
BOXES = Layout((Box("cat", (0.0, -0.4, 0.0), SIZE), Box("dog", (0.0, 0.4, 0.0), SIZE)))
VSD = {"name": "vsd", "learning_rate": 1e-2}
SDS_OF_NORMALS = {"name": "sds", "sees": "normal", "guidance_scale": 3.0}
DDS = {"name": "dds", "reference_prompt": "a red mushrom"}


def mean_of(prompt: str) -> list[float]:
    return [0.5, 0.1, -0.4] if "cat" in prompt else [-0.2, 0.3, 0.6]


def stage_of(**changes: Any) -> StageConfig:
    return toy_stage(milestones=[{"until": 1.0, "size": 8}], **changes)


def sum_of(**rules: dict[str, Any]) -> dict[str, Any]:
    return {"name": "sum", "rules": rules}


def begun(config: StageConfig, layout: Layout | None = None) -> StageTrainer:
    prior = LearnableGaussianPrior(mean_of, std=0.5)
    return begin(Stage("only", config, None, seed=0, device=CPU, layout=layout), prior, "a cat")


@pytest.mark.parametrize("layout", [None, BOXES], ids=["one prompt", "layout"])
def test_one_rule_learns_from_colours_and_another_judges_normals_and_all_goes_on_exactly(
    layout: Layout | None,
):
    config = stage_of(
        guidance=sum_of(colors=VSD, normals=SDS_OF_NORMALS, before=DDS | {"latent_weight": 0.1}),
        pixel_gradient={"policy": "norm_inf", "rgb": 0.1, "normal": 0.05},
        prompts={"view": "perp_neg"},
    )
    check(partial(begun, config, layout))
    trainer = begun(config, layout)
    result = trainer.advance()[0]
    assert {"colors.learned_error", "normals.t", "before.t"} <= result.metrics.keys()
    assert {"rgb_clipped", "normal_clipped"} <= result.metrics.keys()
    guided = {name.split(".")[1] for name in trainer.stage.state() if name.startswith("guidance.")}
    assert guided == {"colors"}
    guidance = trainer.stage.guidance
    assert isinstance(guidance, Sum)
    assert len({id(rule.prompts) for rule in guidance.rules.values()}) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("rule", [VSD, SDS_OF_NORMALS, DDS], ids=lambda rule: rule["name"])
def test_a_rule_alone_in_a_sum_takes_the_steps_that_it_takes_without_one(rule: dict[str, Any]):
    alone, summed = (
        begun(stage_of(guidance=guidance, pixel_gradient={"rgb": 0.1}))
        for guidance in (rule, sum_of(only=rule))
    )
    for _ in range(3):
        assert alone.advance()[0].loss == summed.advance()[0].loss
    expected = alone.capture().tensors
    found = {
        k.replace("guidance.only.", "guidance."): v for k, v in summed.capture().tensors.items()
    }
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_rules_that_learn_begin_with_values_of_their_own():
    seen: list[float] = []

    class Noting(LearnableGaussianPrior):
        def learned_score(self, config: Any, generator: torch.Generator) -> Any:
            seen.append(float(torch.rand((), generator=generator)))
            return super().learned_score(config, generator)

    for guidance in (sum_of(a=VSD, b=VSD), VSD):
        config = stage_of(guidance=guidance)
        build_guidance("only", config, Noting(mean_of), prompt="a", negative_prompt="", seed=0)
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.parametrize(
    ("guidance", "words"),
    [
        ({"name": "sum"}, r"stages\.a\.guidance is a sum without rules.*guidance\.rules"),
        (sum_of(b=sum_of(c=VSD)), r"stages\.a\.guidance\.rules\.b is a sum in a sum"),
        (sum_of(b={"name": "sdss"}), r"stages\.a\.guidance\.rules\.b\.name.*'sds'"),
        (sum_of(b={"scale": 1.0}), r"stages\.a\.guidance\.rules\.b has no name"),
        (sum_of(b={"name": "sds", "sale": 1.0}), r"stages\.a\.guidance\.rules\.b\.sale"),
        ({"name": "sum", "rules": [VSD]}, r"stages\.a\.guidance\.rules must hold a mapping"),
        ({"name": "sum", "rules": {"b": 3}}, r"stages\.a\.guidance\.rules\.b must hold a mapping"),
        ({"name": "sum", "rules": {"b c": VSD}}, r"stages\.a\.guidance: .* must be a word"),
        ({"name": "sum", "weights": 3}, r"stages\.a\.guidance\.weights"),
    ],
)
def test_what_is_no_sum_is_refused_with_the_place(guidance: dict[str, Any], words: str):
    with pytest.raises(InputError, match=words):
        stage_of(guidance=guidance).resolved("stages.a")


def test_every_rule_is_checked_against_the_prior_and_what_the_stage_begins_with():
    flow = Traits("flow", 1, 16, 8, 64)
    shape = stage_of(guidance=sum_of(a=VSD, b={"name": "sds", "sees": "shape"})).resolved()
    with pytest.raises(InputError, match="16 from flow"):
        check_prior("only", shape, flow)
    two = [{"name": "vsd", "learned_model": model} for model in ("sd15", "sd21")]
    with pytest.raises(InputError, match="learn on sd15 and sd21"):
        check_prior("only", stage_of(guidance=sum_of(a=two[0], b=two[1])), flow)
    unsaid = sum_of(a=VSD, b={"name": "dds"})
    with pytest.raises(InputError, match="starts afresh"):
        check_rule({"only": stage_of(guidance=unsaid).resolved()}, "only")
    with pytest.raises(InputError) as refused:
        check_rule({"only": stage_of(guidance=unsaid, start_from="a.glb").resolved()}, "only")
    assert "stages.only.guidance.rules.b.reference_prompt" in refused.value.fix


def test_resolving_spells_out_the_settings_of_every_rule_and_again_changes_nothing():
    resolved = stage_of(guidance=sum_of(a=VSD, b=SDS_OF_NORMALS)).resolved()
    assert resolved.guidance["rules"]["b"]["timesteps"]["t_max"] == 0.98
    assert list(resolved.rules) == ["guidance.rules.a", "guidance.rules.b"]
    again = build(StageConfig, to_plain(resolved))
    assert again == resolved == again.resolved()


RECIPE = """
description: two rules
cost: {}
stages:
  only:
    steps: 10
    representation: {name: gaussians, count: 20}
    renderer: {name: splat}
    guidance:
      name: sum
      rules:
        colors: {name: sds, guidance_scale: 5}
        before: {name: dds, reference_prompt: a red mushrom}
    start_from: a.glb
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "two.yaml"
    path.write_text(RECIPE)
    return str(path)


def test_every_setting_of_every_rule_is_listed_and_can_be_overridden(recipe: str):
    prefix = "stages.only.guidance"
    listed = {setting.key: setting for setting in list_settings(recipe, prefix=prefix)}
    assert listed[f"{prefix}.name"].value == "sum"
    assert listed[f"{prefix}.rules.colors.guidance_scale"].value == 5
    assert listed[f"{prefix}.rules.before.name"].choices == listed[f"{prefix}.name"].choices
    assert all(setting.doc for setting in listed.values())

    def rules(*overrides: str) -> dict[str, Any]:
        return load_recipe(recipe, overrides=overrides, prompt="a").stages["only"].guidance["rules"]

    changed = rules(f"{prefix}.rules.colors.guidance_scale=30")
    assert changed["colors"]["guidance_scale"] == 30 and changed["before"] == rules()["before"]
    other = rules(f"{prefix}.rules.colors.name=nfsd", f"{prefix}.rules.colors.sees=normal")
    assert other["colors"]["name"] == "nfsd" and other["colors"]["sees"] == "normal"
    third = rules(f"{prefix}.rules.third={{name: csd, scale: 2}}")
    assert list(third) == ["colors", "before", "third"] and third["third"]["scale"] == 2
    one = load_recipe(recipe, overrides=[f"{prefix}.name=sds"], prompt="a").stages["only"]
    assert one.guidance["name"] == "sds" and "rules" not in one.guidance


def test_words_of_every_rule_are_looked_up(recipe: str):
    config = load_recipe(recipe, prompt="a red mushroom")
    assert list(words_unknown_to_prior(config)) == ["mushrom"]
