"""Claims about recipe files: complete, named, and refused in one line when they are not."""

import pytest

from dreamlab.core.errors import InputError
from dreamlab.core.locations import configs_dir
from dreamlab.jobs.batch.estimate import from_cost
from dreamlab.jobs.recipe_files import QUALITIES, list_recipes, read_recipe
from dreamlab.jobs.recipes import EMBEDDED


def test_the_recipes_are_the_yaml_files_but_not_the_table_of_models():
    names = list_recipes()
    assert {"toybox", "dreamfusion"} <= set(names)
    assert "models" not in names


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_says_what_it_is_and_what_each_quality_costs(name):
    recipe = read_recipe(name)
    assert 20 <= len(recipe.description) <= 100
    assert set(recipe.cost) == set(QUALITIES)
    for quality in QUALITIES:
        estimate = from_cost(name, quality)
        assert estimate.seconds is not None and estimate.memory_gb is not None, quality
    assert recipe.stages and set(recipe.quality) <= set(QUALITIES)


DOWNLOADED = [name for name in list_recipes() if read_recipe(name).prior["model"] not in EMBEDDED]


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_recipe_for_a_model_that_is_not_here_names_its_source_and_says_what_is_estimated(name):
    text = (configs_dir() / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("#") and "# Source: " in text
    for quality, cost in read_recipe(name).cost.items():
        assert any(word in cost for word in ("estimated", "as published")), quality


def test_an_unknown_recipe_gets_the_nearest_name():
    with pytest.raises(InputError, match="did you mean 'toybox'"):
        read_recipe("tobyox")


def test_a_path_of_a_yaml_file_is_a_recipe_too(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("stages: {only: {steps: 3}}\n")
    assert read_recipe(str(path)).stages == {"only": {"steps": 3}}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("stages: {}\n", "at least one stage"),
        ("description: x\n", "'stages' is missing"),
        ("stages: {a: {}}\nqualty: {}\n", "quality"),
        ("stages: {a: {}}\nquality: {drfat: {}}\n", "'draft'"),
        ("stages: {a: 3}\n", "mapping"),
        ("description: [1]\nstages: {a: {}}\n", "text"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, word):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=word):
        read_recipe(str(path))


EXTENDS = "description: mine\nextends: toybox\n"


def test_a_recipe_that_extends_another_has_its_settings_but_for_those_it_names(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(EXTENDS + "stages: {mesh: {steps: 7, guidance: {guidance_scale: 3}}}\n")
    own, base = read_recipe(str(path)), read_recipe("toybox")
    assert (own.description, own.cost) == ("mine", {})
    assert own.stages["gaussians"] == base.stages["gaussians"]
    assert own.stages["mesh"]["guidance"] == base.stages["mesh"]["guidance"] | {"guidance_scale": 3}
    assert (own.stages["mesh"]["steps"], own.export, own.quality) == (7, base.export, base.quality)


def test_a_component_of_another_name_takes_the_place_of_the_one_before_as_a_whole(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(EXTENDS + "stages: {mesh: {guidance: {name: csd, scale: 2}}}\n")
    assert read_recipe(str(path)).stages["mesh"]["guidance"] == {"name": "csd", "scale": 2}


def test_stages_that_a_recipe_adds_come_after_those_it_extends(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(EXTENDS + "stages: {last: {steps: 1}, gaussians: {steps: 2}}\n")
    assert list(read_recipe(str(path)).stages) == ["gaussians", "mesh", "last"]


@pytest.mark.parametrize("base", ["tobyox", "models", "own.yaml", "[toybox]"])
def test_only_recipes_that_come_with_dreamlab_can_be_extended(tmp_path, base):
    path = tmp_path / "own.yaml"
    path.write_text(f"extends: {base}\n")
    with pytest.raises(InputError, match="extends must name a recipe"):
        read_recipe(str(path))
