"""Claims about the parts that a recipe could have: what is offered can be run, by its settings."""

import pytest

from dreamlab.core.errors import InputError
from dreamlab.jobs.choices import Option, Part
from dreamlab.jobs.parts import _Form, list_parts
from dreamlab.jobs.recipes import load_recipe, load_run_config
from dreamlab.priors.load import known_models

PROMPT = "a ball"


@pytest.fixture(scope="module")
def parts() -> dict[tuple[str, str], Part]:
    found = list_parts("toybox-image", "draft")
    return {(part.stage, part.part): part for part in found}


def test_what_the_recipe_has_is_chosen_and_fits(parts):
    config = load_recipe("toybox-image", "draft", prompt=PROMPT)
    assert parts["", "prior"].chosen == config.prior.model
    for (stage, part), about in parts.items():
        if part == "prior":
            continue
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
    assert [option.name for option in about.options if option.why_not] == ["dds", "sum"]


def prior_of(recipe: str, *overrides: str) -> tuple[Part, dict[str, Option]]:
    """List the priors alone."""
    part = _Form(recipe, "draft", overrides, PROMPT).prior()
    return part, {option.name: option for option in part.options}


def test_a_prior_is_taken_by_its_settings_and_what_it_refuses_says_how_to_go_on(parts):
    _, options = prior_of("toybox-nerf")
    assert list(options) == list(known_models()) and options["toybox"].is_here
    for option in options.values():
        overrides = [f"{key}={value}" for key, value in option.settings.items()]
        assert not option.why_not and option.about
        config = load_recipe("toybox-nerf", "draft", overrides, prompt=PROMPT)
        assert config.prior.model == option.name
    assert options["mvdream"].settings == {"prior.model": "mvdream", "stages.nerf.views": 4}
    with pytest.raises(InputError, match=r"4 views .* there are 2"):
        load_recipe("toybox-nerf", "draft", ["prior.model=mvdream"], prompt=PROMPT)
    picture = {option.name: option for option in parts["", "prior"].options}["mvdream"]
    assert "makes a picture" in picture.why_not and "single pictures" in picture.fix


def test_what_a_prior_brings_goes_with_it_and_what_the_user_set_stays():
    part, options = prior_of("toybox-nerf", 'prior.model="mvdream"', "stages.nerf.views=4")
    assert part.own == {"prior.model": "toybox", "stages.nerf.views": 2}
    assert options["sd21"].settings == {"prior.model": "sd21"}
    part, options = prior_of("toybox-nerf", "stages.nerf.views=6")
    assert part.own == {"prior.model": "toybox"}
    assert options["mvdream"].settings["stages.nerf.views"] == 8
    part, options = prior_of("mvdream", 'prior.model="sd21"', "prior.image_size=null")
    assert part.own == {"prior.model": "mvdream", "prior.image_size": 256}
    assert options["sd15"].settings == {"prior.model": "sd15", "prior.image_size": None}
    assert options["mvdream"].settings == {"prior.model": "mvdream"}


def test_what_is_chosen_is_tried_with_the_settings_that_it_has():
    guidance = "stages.image.guidance"
    chosen = (f"{guidance}.name=sum", f"{guidance}.rules={{colors: {{name: sds}}}}")
    *_, rule = list_parts("toybox-image", "draft", chosen)
    options = {option.name: option for option in rule.options}
    assert rule.chosen == "sum" and not options["sum"].why_not and not options["csd"].why_not
    *_, rule = list_parts("toybox-image", "draft")
    options = {option.name: option for option in rule.options}
    assert "a sum without rules" in options["sum"].why_not and "rules=" in options["sum"].fix


def test_components_are_tried_with_the_prior_that_is_chosen():
    chosen = ("prior.model=mvdream", "stages.image.views=4")
    prior, *stages = list_parts("toybox-image", "draft", chosen)
    assert prior.chosen == "mvdream"  # it does not fit, and can be exchanged here all the same
    for part in stages:
        refused = [each.why_not for each in part.options if each.name not in ("dds", "sum")]
        assert refused and all(why.startswith("mvdream judges 4 views") for why in refused)


def test_what_a_recipe_has_where_the_prompt_tells_of_several_things_is_shown_for_such_prompts():
    each = ("stages.gaussians.representation.per_object=true",)
    each += ("stages.mesh.representation.per_object=true",)
    with pytest.raises(InputError, match="no layout"):
        list_parts("toybox", "draft", each, "a cat")
    parts = list_parts("toybox", "draft", each, "a cat on top of a table")
    assert [part.chosen for part in parts if part.part == "representation"] == [
        "gaussians",
        "dmtet",
    ]


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
