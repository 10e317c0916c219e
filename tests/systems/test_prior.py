"""What the prior of a run is loaded with."""

from dataclasses import replace

import pytest
import torch
from toy_run import BallPrior, toy_stage

from dreamlab.core.layout import Box, Layout
from dreamlab.priors.footprint import Demand
from dreamlab.priors.learned import LoraConfig
from dreamlab.priors.load import PriorConfig
from dreamlab.systems import prior as loading
from dreamlab.systems.passes import PassConfig
from dreamlab.systems.prior import demands_of, load_for_stages

SIZE = (0.5, 0.5, 0.5)
PLACES = zip("abc", (-0.5, 0.0, 0.5), strict=True)
THREE = Layout(tuple(Box(text, (0.0, y, 0.0), SIZE) for text, y in PLACES))


def test_a_stage_demands_the_rows_of_its_rule_for_all_of_its_views():
    assert demands_of(toy_stage(views=3)) == [Demand(3, 2)]
    nfsd = toy_stage(guidance={"name": "nfsd"}, prompts={"view": "perp_neg"})
    assert demands_of(nfsd) == [Demand(2, 3 + 2)]
    lora = {"rank": 8}
    vsd = toy_stage(guidance={"name": "vsd", "lora": lora, "learned_model": "sd15"})
    assert demands_of(vsd) == [Demand(2, 2, LoraConfig(rank=8), "sd15")]


def test_rules_of_a_sum_demand_what_they_do_alone_beside_the_second_model_of_any_of_them():
    vsd = {"name": "vsd", "learned_model": "sd15"}
    rules = {"a": {"name": "nfsd"}, "b": vsd, "c": {"name": "sdedit"}}
    alone = [demands_of(toy_stage(guidance=rule))[0] for rule in rules.values()]
    together = demands_of(toy_stage(guidance={"name": "sum", "rules": rules}))
    assert together == [replace(demand, learned_model="sd15") for demand in alone]
    assert together[1] == alone[1] and together[0].lora is None


def test_a_stage_demands_the_codings_of_its_rule_and_of_its_way_back():
    hifa = {"name": "sds", "image_weight": {"from": 0, "to": 0.01}}
    assert demands_of(toy_stage(guidance=hifa))[0].codings == ("encode", "back", "decode")
    linear = toy_stage(guidance=hifa, encoder_gradient="linear")
    assert demands_of(linear)[0].codings == ("encode", "decode")
    assert demands_of(toy_stage(guidance={"name": "sdedit"}))[0].codings == ("encode", "decode")
    latents = toy_stage(representation={"name": "latent_image"}, guidance=hifa)
    assert demands_of(latents)[0].codings == ("decode", "show")


@pytest.mark.parametrize(
    ("passes", "prompts"),
    [
        ({}, 4),  # three objects and the scene
        ({"alone": 1, "pairs": 1}, 4),
        ({"alone": 1, "pairs": 1, "scene": 0}, 2),
        ({"alone": 1, "scene": 0}, 1),
    ],
)
def test_a_layout_adds_the_prompts_that_share_a_view(passes: dict[str, int], prompts: int):
    assert PassConfig(**passes).most_prompts(3) == prompts
    assert demands_of(toy_stage(passes=passes), THREE) == [Demand(2, prompts + 1)]


def test_the_prior_gets_the_controlnets_and_the_demands_of_all_stages(
    monkeypatch: pytest.MonkeyPatch,
):
    seen: list[tuple] = []
    monkeypatch.setattr(loading, "load_prior", lambda *given: seen.append(given) or BallPrior())
    config, device = PriorConfig(), torch.device("cpu")
    controls = [{"model": "sd15-depth"}, {"model": "sd15-normal", "sees": "normal"}]
    stages = [toy_stage(controls=controls[:1]), toy_stage(views=4, controls=controls[1:])]
    assert isinstance(load_for_stages(config, stages, device), BallPrior)
    demands, names = [Demand(2, 2), Demand(4, 2)], ["sd15-depth", "sd15-normal"]
    assert seen == [(config, device, demands, names)]
