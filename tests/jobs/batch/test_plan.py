"""Claims about rows with all their settings: a row is the run of the command line."""

from dataclasses import replace

import pytest

from dreamlab.core.errors import InputError
from dreamlab.jobs.batch.plan import Resolver
from dreamlab.jobs.batch.rows import make_row
from dreamlab.jobs.recipes import load_recipe, load_run_config

SEVERAL = "a cat on top of a table"
ROWS = [
    {"prompt": "a cat"},
    {"prompt": SEVERAL},
    {"prompt": "two green cones"},
    {"prompt": SEVERAL, "layout": None},
    {"prompt": "a cat", "layout": "prompt"},
    {"prompt": SEVERAL, "recipe": "toybox-csd"},
    {"prompt": "a cat", "recipe": "semantic-sds"},
    {
        "prompt": SEVERAL,
        "layout.boxes": [{"prompt": "a dog", "center": [0, 0, 0], "size": [1, 1, 1]}],
    },
]


def resolve(*rows: dict) -> list:
    resolver = Resolver(())
    return [resolver.plan(number, make_row(row, "row")) for number, row in enumerate(rows, 1)]


def test_a_row_is_what_the_command_line_makes_of_its_prompt_boxes_included():
    for row, planned in zip(ROWS, resolve(*ROWS), strict=True):
        recipe, settings = row.get("recipe", "toybox"), planned.row.overrides
        assert planned.config == load_recipe(recipe, overrides=settings, prompt=row["prompt"]), row
    boxes = [planned.config.layout and len(planned.config.layout) for planned in resolve(*ROWS)]
    assert boxes == [None, 2, 2, None, 1, 2, 1, 1]


def test_the_name_of_a_row_follows_from_its_own_settings_whatever_rows_there_are():
    names = [planned.name for planned in resolve(*ROWS)]
    assert names == [planned.name for planned in resolve(*reversed(ROWS))][::-1]
    assert len(set(names)) == len(ROWS)


def test_a_prompt_whose_words_say_no_layout_is_refused_alone_where_one_is_asked_for():
    bad, good = resolve(
        {"prompt": "next to a cube", "layout": "prompt"}, {"prompt": "a cube", "layout": "prompt"}
    )
    assert bad.config is None and "relates nothing" in bad.error.message
    assert good.error is None and len(good.config.layout) == 1


def test_boxes_that_were_read_from_a_prompt_are_not_kept_for_another_one(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(load_recipe(prompt=SEVERAL).to_yaml())
    with pytest.raises(InputError, match="its own prompt") as refused:
        load_run_config(path, prompt="a dog")
    assert "layout=prompt" in refused.value.fix
    assert load_run_config(path, ["layout=null"], prompt="a dog").layout is None
    read = load_run_config(path, ["layout=prompt"], prompt="a dog next to a ball").layout
    assert [box.prompt for box in read.boxes] == ["a dog", "a ball"]
    assert load_run_config(path, prompt=SEVERAL) == load_run_config(path)
    moved = load_run_config(path)
    box = replace(moved.layout.boxes[0], yaw=30.0)
    moved = replace(moved, layout=replace(moved.layout, boxes=(box, moved.layout.boxes[1])))
    path.write_text(moved.to_yaml())
    assert load_run_config(path, prompt="another scene").layout == moved.layout
