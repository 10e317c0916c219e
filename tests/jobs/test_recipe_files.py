"""Claims about recipe files: complete, named, and refused in one line when they are not."""

import pytest

from dreamlab.core.errors import InputError
from dreamlab.jobs.recipe_files import QUALITIES, list_recipes, read_recipe


def test_the_recipes_are_the_yaml_files_but_not_the_table_of_models():
    names = list_recipes()
    assert {"toybox", "dreamfusion"} <= set(names)
    assert "models" not in names


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_says_what_it_is_and_what_each_quality_costs(name):
    recipe = read_recipe(name)
    assert 20 <= len(recipe.description) <= 100
    assert set(recipe.cost) == set(QUALITIES)
    assert recipe.stages and set(recipe.quality) <= set(QUALITIES)


def test_an_unknown_recipe_gets_the_nearest_name():
    with pytest.raises(InputError, match="did you mean 'toybox'"):
        read_recipe("tobyox")


def test_a_path_of_a_yaml_file_is_a_recipe_too(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("description: mine\ncost: {}\nstages: {only: {steps: 3}}\n")
    assert read_recipe(str(path)).stages == {"only": {"steps": 3}}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("description: x\ncost: {}\nstages: {}\n", "at least one stage"),
        ("description: x\ncost: {}\n", "'stages' is missing"),
        ("description: x\ncost: {}\nstages: {a: {}}\nqualty: {}\n", "quality"),
        ("description: x\ncost: {}\nstages: {a: {}}\nquality: {drfat: {}}\n", "'draft'"),
        ("description: x\ncost: {}\nstages: {a: 3}\n", "mapping"),
        ("description: [1]\ncost: {}\nstages: {a: {}}\n", "text"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, word):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=word):
        read_recipe(str(path))
