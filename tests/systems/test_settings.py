import pytest
from toy_run import toy_stage

from dreamlab.core.config import build, to_plain
from dreamlab.core.errors import InputError
from dreamlab.systems.settings import DEFAULT_RATES, OptimizerConfig, StageConfig


def test_milestones_follow_each_other() -> None:
    stage = toy_stage(
        milestones=[
            {"until": 0.25, "size": 8},
            {"until": 0.5, "size": 16},
            {"until": 1, "size": 32},
        ]
    )
    sizes = [stage.size_at(progress) for progress in (0.0, 0.24, 0.25, 0.49, 0.5, 0.99, 1.0)]
    assert sizes == [8, 8, 16, 16, 32, 32, 32]


@pytest.mark.parametrize(
    "milestones",
    [
        [],
        [{"until": 0.5, "size": 8}],
        [{"until": 0.7, "size": 8}, {"until": 0.5, "size": 8}, {"until": 1, "size": 8}],
        [{"until": 1, "size": 0}],
        [{"until": 1.5, "size": 8}],
    ],
)
def test_milestones_that_do_not_cover_the_stage_are_refused(milestones: list) -> None:
    with pytest.raises(InputError, match="milestones"):
        toy_stage(milestones=milestones)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"steps": -5},
        {"views": 0},
        {"start_from": "next"},
        {"vews": 2},
        {"views": 3, "cameras": {"together": 2}},
        {"cameras": {"together": 0}},
    ],
)
def test_impossible_settings_are_refused(changes: dict) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        toy_stage(**changes)


@pytest.mark.parametrize(
    "settings",
    [
        {"betas": [0.9, 1.0]},
        {"eps": 0.0},
        {"weight_decay": -1.0},
        {"max_gradient_norm": 0.0},
        {"name": "sgd"},
    ],
)
def test_impossible_optimisers_are_refused(settings: dict) -> None:
    with pytest.raises(InputError):
        build(OptimizerConfig, settings)


def test_rates_left_out_keep_their_defaults() -> None:
    config = build(OptimizerConfig, {"lr": {"table": 0.5}})
    assert config.lr == DEFAULT_RATES | {"table": 0.5}


def test_resolving_spells_out_every_setting_and_building_the_result_changes_nothing() -> None:
    resolved = toy_stage().resolved("stages.nerf")
    assert resolved.representation["activation"] == "softplus"
    assert resolved.renderer["background"]["name"] == "solid"
    again = build(StageConfig, to_plain(resolved))
    assert again == resolved == again.resolved()


def test_a_wrong_setting_of_a_component_is_named_with_its_full_path() -> None:
    stage = toy_stage(representation={"name": "hashgrid", "hiden_width": 4})
    with pytest.raises(InputError, match=r"stages\.nerf\.representation\.hiden_width"):
        stage.resolved("stages.nerf")
