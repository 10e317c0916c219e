"""Claims about recipes: each one builds, layers merge in order, nothing else gets through."""

from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dreamlab.core.config import build, load_yaml, to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.schedules import Schedule
from dreamlab.jobs.recipe_files import QUALITIES, list_recipes, read_recipe
from dreamlab.jobs.recipes import (
    RunConfig,
    load_recipe,
    load_run_config,
    words_unknown_to_prior,
)
from dreamlab.jobs.settings import list_settings
from dreamlab.priors.load import known_models

PROMPT = "a red mushroom"


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_builds_for_every_quality_and_round_trips_through_its_yaml(
    tmp_path, name, quality
):
    config = load_recipe(name, quality, prompt=PROMPT)
    assert (config.recipe, config.quality) == (name, quality)
    path = tmp_path / "config.yaml"
    text = config.to_yaml()
    path.write_text(text, encoding="utf-8")
    loaded = load_run_config(path)
    assert loaded == config
    assert loaded.to_yaml() == text


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_names_a_known_model_and_more_quality_costs_more_steps(name):
    configs = [load_recipe(name, quality, prompt=PROMPT) for quality in QUALITIES]
    assert configs[0].prior.model in known_models()
    steps = [sum(stage.steps for stage in config.stages.values()) for config in configs]
    assert steps == sorted(steps) and steps[0] < steps[2]


def test_the_recipes_cameras_lie_within_those_that_the_embedded_prior_has_seen():
    from dreamlab.priors.toybox.world.views import RANGES

    for stage in load_recipe("toybox", prompt=PROMPT).stages.values():
        for name in ("elevation", "distance", "fov_y"):
            low, high = getattr(stage.cameras, name)
            seen_low, seen_high = getattr(RANGES, name)
            assert seen_low <= low <= high <= max(seen_high, RANGES.overhead[1])


def test_overrides_win_over_the_quality_which_wins_over_the_recipe(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "description: for a test\ncost: {}\n"
        "stages: {only: {steps: 10, views: 3, guidance: {name: sds}}}\n"
        "quality: {draft: {stages: {only: {steps: 5}}}}\n"
    )
    only = [
        load_recipe(str(path), quality, overrides, prompt=PROMPT).stages["only"]
        for quality, overrides in (
            ("standard", []),
            ("draft", []),
            ("draft", ["stages.only.steps=2"]),
        )
    ]
    assert [stage.steps for stage in only] == [10, 5, 2]
    assert all(stage.views == 3 for stage in only)


def test_the_preset_of_a_model_lies_between_the_recipe_and_the_quality(tmp_path, monkeypatch):
    (tmp_path / "models.yaml").write_text(
        "mine:\n  sources: [some/where]\n"
        "  preset: {stages: {only: {steps: 7, views: 4}}, export: {height: 2.0}}\n"
    )
    monkeypatch.setattr("dreamlab.priors.load.configs_dir", lambda: tmp_path)
    path = tmp_path / "own.yaml"
    path.write_text(
        "description: for a test\ncost: {}\nprior: {model: mine}\n"
        "stages: {only: {steps: 10, views: 3, guidance: {name: sds}}}\n"
        "quality: {draft: {stages: {only: {steps: 5}}}}\n"
    )
    config = load_recipe(str(path), "draft", prompt=PROMPT)
    assert (config.stages["only"].steps, config.stages["only"].views) == (5, 4)
    assert config.export.height == 2.0


def test_a_schedule_can_replace_a_number_and_a_number_a_schedule():
    scale = "stages.gaussians.guidance.guidance_scale"
    config = load_recipe("toybox", overrides=[f"{scale}={{from: 20, to: 5}}"], prompt=PROMPT)
    assert config.stages["gaussians"].guidance["guidance_scale"]["from"] == 20
    entropy = "stages.gaussians.losses.opacity_entropy"
    config = load_recipe("toybox", overrides=[f"{entropy}={{from: 1, to: 2}}"], prompt=PROMPT)
    assert isinstance(config.stages["gaussians"].losses["opacity_entropy"], Schedule)
    config = load_recipe("toybox", overrides=[f"{entropy}=0.5"], prompt=PROMPT)
    assert config.stages["gaussians"].losses["opacity_entropy"] == 0.5


def test_dreamfusion_has_the_published_hyperparameters_in_our_conventions():
    config = load_recipe("dreamfusion", prompt=PROMPT)
    stage = config.stages["nerf"]
    assert (stage.steps, stage.views, stage.size_at(0.5)) == (10_000, 1, 64)
    assert stage.guidance["guidance_scale"] == 101
    assert stage.losses["orientation"] == Schedule(10.0, 1000.0, end=0.5)
    assert (stage.cameras.distance, stage.cameras.fov_y) == ((1.5, 2.0), (40.0, 70.0))
    expected = {"table": 1e-2, "mlp": 1e-2, "background": 1e-3}
    assert {name: stage.optimizer.lr[name] for name in expected} == expected


def test_what_is_given_replaces_what_a_configuration_says(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(load_recipe(prompt=PROMPT, seed=3).to_yaml())
    config = load_run_config(path, ["export.height=2"], prompt="a blue cube", seed=8)
    assert (config.prompt, config.seed, config.export.height) == ("a blue cube", 8, 2.0)
    assert load_run_config(path).prompt == PROMPT


def test_prompts_with_any_printable_text_survive_the_configuration(tmp_path):
    prompt = "a \"quoted\" 'mug': {x} # ∆ & *y !z | > % @ ` 12:30 yes"
    path = tmp_path / "config.yaml"
    path.write_text(load_recipe(prompt=prompt).to_yaml(), encoding="utf-8")
    assert load_run_config(path).prompt == prompt


def test_only_the_embedded_prior_has_unknown_words():
    config = load_recipe(prompt="a red mushrom")
    assert "mushroom" in words_unknown_to_prior(config)["mushrom"]
    config = load_recipe("dreamfusion", prompt="a red mushrom")
    assert words_unknown_to_prior(config) == {}


def test_every_setting_has_a_meaning_and_its_key_can_be_set():
    listed = list_settings("toybox")
    keys = {setting.key for setting in listed}
    assert {"stages.gaussians.steps", "prior.model", "export.texture_size"} <= keys
    assert all(setting.doc for setting in listed)
    for setting in list_settings("toybox", prefix="export"):
        if isinstance(setting.value, int | float | bool):
            assignment = f"{setting.key}={str(setting.value).lower()}"
            load_recipe("toybox", overrides=[assignment], prompt=PROMPT)


FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
PLAIN = to_plain(load_recipe(prompt=PROMPT))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([[], {}, [1, 2], {"name": "hashgrid"}, {"from": 1, "to": 2}, "sds", "???"])
)


def paths(tree: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """List the paths of all keys in nested mappings."""
    if not isinstance(tree, dict):
        return []
    inner = (path for key, item in tree.items() for path in paths(item, (*prefix, key)))
    return [*((*prefix, key) for key in tree), *inner]


@example(("stages",), True)
@example(("stages",), "sds")
@settings(FUZZ, max_examples=50)
@given(st.sampled_from(paths(PLAIN)), LEAVES | st.just("delete") | st.just("misspell"))
def test_a_configuration_with_any_key_changed_builds_or_is_refused(tmp_path_factory, path, value):
    tree = yaml.safe_load(yaml.safe_dump(PLAIN))
    node = tree
    for key in path[:-1]:
        node = node[key]
    old = node.pop(path[-1])
    if value == "misspell":
        node[path[-1] + "x"] = old
    elif value != "delete":
        node[path[-1]] = value
    file = tmp_path_factory.mktemp("fuzz") / "config.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    try:
        config = load_run_config(file)
    except InputError as error:
        assert "\n" not in error.message and error.fix
    else:
        assert build(RunConfig, to_plain(config)) == config


@settings(FUZZ, max_examples=30)
@given(st.sampled_from([".".join(path) for path in paths(PLAIN)]), st.text(max_size=15))
def test_any_override_of_any_key_builds_or_is_refused(key, text):
    try:
        load_recipe(overrides=[f"{key}={text}"], prompt=PROMPT)
    except InputError as error:
        assert error.message and error.fix


def test_a_recipe_file_is_not_changed_by_reading_it():
    before = load_yaml_of("toybox")
    load_recipe("toybox", "high", ["stages.gaussians.steps=1"], prompt=PROMPT)
    assert load_yaml_of("toybox") == before
    assert (
        read_recipe("toybox").stages["gaussians"]["steps"] == before["stages"]["gaussians"]["steps"]
    )


def load_yaml_of(name: str) -> dict[str, Any]:
    from dreamlab.core.locations import configs_dir

    return load_yaml(configs_dir() / f"{name}.yaml")
