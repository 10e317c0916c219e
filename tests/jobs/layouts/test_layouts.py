"""Claims about layouts as runs and people meet them: settings, the schema, the picture."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from dreamlab.core.config import dump_yaml, to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Box, Layout
from dreamlab.jobs.layouts.given import given_layout
from dreamlab.jobs.layouts.picture import COLORS, SIDES, draw_layout
from dreamlab.jobs.layouts.schema import layout_schema
from dreamlab.jobs.layouts.words import layout_of
from dreamlab.jobs.recipes import load_recipe, load_run_config, words_unknown_to_prior

PUBLISHED = Path(__file__).parents[3] / "docs" / "layout.schema.json"
PROMPT = "a red mushroom next to a blue car"


def test_the_published_schema_is_that_of_the_code():
    assert json.loads(PUBLISHED.read_text()) == layout_schema(), (
        "write it anew: dreamlab layout --schema > docs/layout.schema.json"
    )


def test_the_schema_has_every_key_with_what_it_means():
    schema = layout_schema()
    box = schema["$defs"]["box"]
    assert set(schema["properties"]) == set(Layout.__dataclass_fields__)
    assert set(box["properties"]) == set(Box.__dataclass_fields__)
    assert all(
        about["description"]
        for about in (*schema["properties"].values(), *box["properties"].values())
    )


def test_a_layout_is_given_as_a_file_as_a_mapping_or_by_the_prompt(tmp_path):
    layout = layout_of(PROMPT)
    path = tmp_path / "scene.yaml"
    path.write_text(dump_yaml(to_plain(layout)))
    for value in (str(path), to_plain(layout), "prompt"):
        assert given_layout(value, PROMPT) == layout
    assert given_layout(None, PROMPT) is None
    for wrong in ("scene", 3, "scene.csv"):
        with pytest.raises(InputError, match="give a path"):
            given_layout(wrong, PROMPT)


def test_a_run_folder_holds_the_layout_written_out(tmp_path):
    scene, path = tmp_path / "scene.yaml", tmp_path / "config.yaml"
    scene.write_text(dump_yaml(to_plain(layout_of(PROMPT))))
    config = load_recipe(overrides=[f"layout={scene}"], prompt=PROMPT)
    path.write_text(config.to_yaml())
    scene.unlink()
    assert config.layout == layout_of(PROMPT)
    assert load_run_config(path) == config
    assert yaml.safe_load(path.read_text())["layout"]["boxes"][0]["prompt"] == "a red mushroom"
    assert load_run_config(path, ["layout=null"]).layout is None


def test_errors_name_the_box():
    with pytest.raises(InputError, match=r"layout.boxes\[0\].*lie in the cube"):
        box = "{prompt: a cat, center: [0, 0, 0], size: [3, 1, 1]}"
        load_recipe(overrides=[f"layout={{boxes: [{box}]}}"], prompt=PROMPT)


def test_words_of_boxes_are_looked_up_too():
    box = "{prompt: a mushrom, center: [0, 0, 0], size: [1, 1, 1]}"
    config = load_recipe(overrides=[f"layout={{boxes: [{box}]}}"], prompt=PROMPT)
    assert "mushroom" in words_unknown_to_prior(config)["mushrom"]


def test_the_picture_shows_each_box_where_it_is():
    picture = np.asarray(draw_layout(layout_of(PROMPT), cell=120)).astype(int)
    views = picture[16:136].reshape(120, -1, 3)
    assert views.shape[1] == len(SIDES) * 122

    def place(view: int, number: int) -> float:
        shown = views[:, view * 122 : view * 122 + 120]
        near = np.abs(shown - np.array(COLORS[number]) * 0.85).sum(axis=-1) < 90
        assert near.any()
        return float(np.nonzero(near)[1].mean())

    front, back = 0, list(SIDES).index("back")
    assert place(front, 0) < 50 and place(front, 1) > 70
    assert place(back, 0) > 70 and place(back, 1) < 50
