"""Claims about the parts that a recipe could have: what is offered can be run, by its settings."""

import pytest

from dreamlab.core.errors import InputError
from dreamlab.jobs.parts import Part, list_parts
from dreamlab.jobs.recipes import load_recipe, load_run_config

PROMPT = "a ball"


@pytest.fixture(scope="module")
def parts() -> dict[tuple[str, str], Part]:
    found = list_parts("toybox-image", "draft")
    return {(part.stage, part.part): part for part in found}


def test_what_the_recipe_has_is_chosen_and_fits(parts):
    config = load_recipe("toybox-image", "draft", prompt=PROMPT)
    for (stage, part), about in parts.items():
        name = getattr(config.stages[stage], part)["name"]
        chosen = next(option for option in about.options if option.name == name)
        assert about.chosen == name and chosen.why_not == "" and chosen.settings == about.own


def test_what_fits_is_taken_by_its_settings_and_what_does_not_says_why(parts):
    (stage, _), about = next(item for item in parts.items() if item[0][1] == "guidance")
    for option in about.options:
        overrides = [f"{key}={name}" for key, name in option.settings.items()]
        if not option.why_not:
            config = load_recipe("toybox-image", "draft", overrides, prompt=PROMPT)
            assert config.stages[stage].guidance["name"] == option.name
    assert [option.name for option in about.options if option.why_not] == ["dds"]


def test_another_component_keeps_the_settings_that_it_has_too(tmp_path):
    before = load_recipe("toybox", "draft", prompt=PROMPT).stages["gaussians"]
    change = "stages.gaussians.guidance.name=csd"
    after = load_recipe("toybox", "draft", [change], prompt=PROMPT).stages["gaussians"]
    shared = before.guidance.keys() & after.guidance.keys() - {"name"}
    assert after.guidance["name"] == "csd" and shared and "count" in before.representation
    assert {key: before.guidance[key] for key in shared} == {
        key: after.guidance[key] for key in shared
    }
    path = tmp_path / "config.yaml"
    path.write_text(load_recipe("toybox", "draft", prompt=PROMPT).to_yaml())
    assert load_run_config(path, [change]).stages["gaussians"] == after
    with pytest.raises(InputError, match="cds"):
        load_recipe("toybox", "draft", ["stages.gaussians.guidance.name=cds"], prompt=PROMPT)
