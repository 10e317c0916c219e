"""Claims about files of layouts: ours and those of others are read, and nothing in them is run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dreamlab.core.config import MAX_CHARACTERS, build, to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.jobs.layouts.blocks import REACH
from dreamlab.jobs.layouts.files import load_layout, parse_layout
from dreamlab.jobs.layouts.given import given_layout

OURS: dict[str, Any] = {
    "prompt": "a ball in front of a van",
    "boxes": [
        {"prompt": "a van", "center": [-0.4, 0, 0], "size": [1, 0.5, 0.5], "yaw": 30, "front": 90},
        {"prompt": "a ball", "center": [0.5, 0, -0.1], "size": [0.3, 0.3, 0.3]},
    ],
}
LUCID = """[('a table', [106, 106, 106, 300, 300, 200]),
 ("a cat's toy", (406, 206, 106, 100, 100, 70.0))]
"""
"""A table, and on its +x side, in the middle of y, at the height of its foot, a toy."""


def corners(layout: Layout) -> np.ndarray:
    """Lowest and highest corner of each box, `[boxes, 2, 3]`."""
    return np.array(
        [[np.min(box.corners(), axis=0), np.max(box.corners(), axis=0)] for box in layout.boxes]
    )


def semantic(**changes: Any) -> dict[str, Any]:
    """A house of two parts to the left of a car in front of it, in centimetres."""
    house = {
        "name": "house",
        "stable diffusion prompt": "a house in spring and winter",
        "dimensions": {"x": 40, "y": 30, "z": 20.0},
        "position": {"x": 0, "y": -20, "z": 10},
        "scale": 1.57,
        "parts_in_complementary_format": {"depth split": []},
        "parts_in_global_coords": [],
        "parts_in_local_01_coords": [
            {"prompt": "a house in spring", "min_corner": [0, 0, 0], "max_corner": [1, 0.25, 1]},
            {"prompt": "a house in snow", "min_corner": [0, 0.25, 0], "max_corner": [1, 1, 1]},
        ],
    }
    car = {
        "stable diffusion prompt": "a car",
        "dimensions": {"x": 20, "y": 10, "z": 10},
        "position": {"x": 30, "y": 15, "z": 5},
    }
    return {"user_prompt": "a house and a car", "scene_models": [house | changes, car]}


def test_yaml_and_json_hold_the_same_layout_and_what_is_written_is_read_again(tmp_path):
    for suffix, write in ((".yaml", yaml.safe_dump), (".json", json.dumps)):
        path = tmp_path / f"scene{suffix}"
        path.write_text(write(OURS))
        found = load_layout(path)
        assert found == build(Layout, OURS) == build(Layout, to_plain(found))
    assert [box.facing for box in found.boxes] == [120, 0]


def test_a_file_of_another_kind_and_one_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(InputError, match="no file of a layout"):
        load_layout(tmp_path / "scene.csv")
    with pytest.raises(InputError, match="cannot read"):
        load_layout(tmp_path / "scene.yaml")


def test_a_file_of_a_layout_reaches_no_environment_and_runs_nothing(tmp_path):
    mark = tmp_path / "mark"
    for text in (
        "prompt: ${oc.env:HOME}\nboxes: []\n",
        "boxes: !!python/object/apply:os.getcwd []",
        f"[(open({str(mark)!r}, 'w').name, [0, 0, 0, 1, 1, 1])]",
        f"[('a cat', [0, 0, 0, 1, 1, __import__('pathlib').Path({str(mark)!r}).touch() or 1])]",
    ):
        with pytest.raises(InputError):
            parse_layout(text, "scene")
    assert not mark.exists()


def test_boxes_of_lucid_dreaming_keep_their_arrangement_and_fill_the_ball():
    layout = parse_layout(LUCID, "scene.txt")
    assert [box.prompt for box in layout.boxes] == ["a table", "a cat's toy"]
    assert layout.prompt is None
    (table, toy) = corners(layout)
    unit = REACH / np.linalg.norm([200, 150, 100])  # half of 400 x 300 x 200
    assert np.allclose(table[1] - table[0], np.multiply([300, 300, 200], unit), atol=2e-3)
    assert np.allclose(toy[1] - toy[0], np.multiply([100, 100, 70], unit), atol=2e-3)
    assert toy[0][0] == pytest.approx(table[1][0], abs=2e-3), "it touches the table's front"
    assert toy.mean(axis=0)[1] == pytest.approx(0, abs=1e-3)
    assert toy[0][2] == pytest.approx(table[0][2], abs=2e-3)
    assert max(np.linalg.norm(c) for box in layout.boxes for c in box.corners()) <= REACH + 2e-3


def test_left_in_lucid_dreaming_is_left_here():
    """Their own example: a giraffe on the left of a candle."""
    text = (
        "[('a candle', [256, 306, 156, 50, 50, 200]), ('a giraffe', [156, 106, 56, 200, 200, 400])]"
    )
    candle, giraffe = parse_layout(text, "scene.txt").boxes
    assert giraffe.center[1] < candle.center[1] and giraffe.size[2] > candle.size[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "names 0 things"),
        ("[('a cat', [0, 0, 0, 1, 1])]", r"scene\[0\] must be a list of 6 numbers"),
        ("[('a cat', [0, 0, 0, 1, 1, '1'])]", "'1', allowed are numbers"),
        ("[('a cat', [0, 0, 0, 1, 1, True])]", "True, allowed are numbers"),
        ("[('a cat', [0, 0, 0, 1, 1, 1e999])]", "inf, allowed are numbers"),
        ("[('a cat', [0, 0, 0, 1, 1, 2j])]", "2j, allowed are numbers"),
        ("[('a cat', [0, 0, 0, 1, 1, 0])]", r"edges of scene\[0\] must be positive"),
        ("[('a cat', [0, 0, 0, 1, 1, -4])]", "must be positive"),
        ("[('a cat', [0, 0, 0, 9, 9, 9]), ('a hair', [0, 0, 0, 9, 9, 1e-4])]", "positive"),
        ("[('', [0, 0, 0, 1, 1, 1])]", "prompt of a box is empty"),
        ("[(3, [0, 0, 0, 1, 1, 1])]", "must be text"),
        ("[('a cat', [0, 0, 0, 1, 1, 1], 'more')]", r"scene\[0\] is no pair"),
        ("[(load/images/dog1.png, [120, 100, 156, 200, 200, 200])]", "no list of literals"),
        ("[('a cat', [0, 0, 0, 1, 1, 1])", r"no list of literals \(line 1\)"),
        ("['\\d']", "no pair"),
        ("[" * 150, "no list of literals"),
        ("[" + "-" * 100_000 + "1]", "no list of literals"),
        ("[" + "9" * 10_000 + "]", "no list of literals"),
        ("[" + " " * MAX_CHARACTERS, "characters, at most"),
        ("[" + "('a cat', [0, 0, 0, 1, 1, 1])," * 13 + "]", "names 13 things"),
    ],
)
def test_what_is_no_list_of_boxes_is_refused(text: str, message: str):
    with pytest.raises(InputError, match=message):
        parse_layout(text, "scene")


def test_parts_of_semantic_sds_become_boxes_where_they_are():
    layout = parse_layout(json.dumps(semantic()), "normalized.json")
    assert layout.prompt == "a house and a car"
    assert [b.prompt for b in layout.boxes] == ["a house in spring", "a house in snow", "a car"]
    spring, snow, car = corners(layout)
    unit = REACH / np.linalg.norm([30, 27.5, 10])  # half of 60 x 55 x 20
    shift = np.multiply([10, -7.5, 10], unit)
    assert np.allclose(spring[0], np.multiply([-20, -35, 0], unit) - shift, atol=2e-3)
    assert np.allclose(spring[1], np.multiply([20, -27.5, 20], unit) - shift, atol=2e-3)
    assert np.allclose(snow[1], np.multiply([20, -5, 20], unit) - shift, atol=2e-3)
    assert np.allclose(car[0], np.multiply([20, 10, 0], unit) - shift, atol=2e-3)
    assert {box.facing for box in layout.boxes} == {0.0}


def test_units_do_not_count():
    def scaled(value: Any, by: float) -> Any:
        if isinstance(value, dict):
            return {
                key: {axis: by * x for axis, x in item.items()}
                if key in ("dimensions", "position")
                else scaled(item, by)
                for key, item in value.items()
            }
        return [scaled(item, by) for item in value] if isinstance(value, list) else value

    layouts = [parse_layout(json.dumps(scaled(semantic(), by)), "x") for by in (1, 0.01)]
    assert layouts[0] == layouts[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rotation": 3}, "unknown key 'rotation'"),
        ({"dimensions": {"x": 1, "y": 1}}, r"scene_models\[0\].dimensions has no 'z'"),
        ({"dimensions": {"x": 1, "y": 1, "z": 0}}, "must be positive"),
        ({"dimensions": {"x": 1, "y": 1, "z": -1}}, "allowed are numbers from 0"),
        ({"position": {"x": 1, "y": 1, "z": None}}, "None, allowed are numbers"),
        ({"position": [1, 2, 3]}, "must hold a mapping"),
        ({"stable diffusion prompt": 3, "parts_in_local_01_coords": 3}, "must be a list"),
        ({"parts_in_local_01_coords": []}, "something in it"),
        (
            {"parts_in_local_01_coords": [{"prompt": "x", "min_corner": [0, 0, 0]}]},
            "has no 'max_corner'",
        ),
        (
            {
                "parts_in_local_01_coords": [
                    {"prompt": "x", "min_corner": [0, 0, 0], "max_corner": [1, 1, 2]}
                ]
            },
            "allowed are numbers from 0 to 1",
        ),
    ],
)
def test_what_is_odd_in_semantic_sds_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        parse_layout(json.dumps(semantic(**changes)), "scene")


def test_a_split_without_its_parts_and_a_key_beside_the_models_are_refused():
    content = semantic()
    del content["scene_models"][0]["parts_in_local_01_coords"]
    with pytest.raises(InputError, match="is split, but has no parts_in_local_01_coords"):
        parse_layout(json.dumps(content), "scene")
    with pytest.raises(InputError, match="unknown key 'cameras'"):
        parse_layout(json.dumps({**semantic(), "cameras": 3}), "scene")
    with pytest.raises(InputError, match="user_prompt must be text"):
        parse_layout(json.dumps({**semantic(), "user_prompt": 3}), "scene")
    with pytest.raises(InputError, match="something in it"):
        parse_layout('{"scene_models": []}', "scene")


CAR = """
device: cuda
guidance: {device: "${device}", guidance_scale: 100.0}
init:
  type: multiple_groups
  subinit:
  - prompt: A car
    num_points: 12288
    xyz_offset: [0, 0, 0]
    part_space_ratios:
    - - [0.0, 0.0, 0.0]
      - [0.25, 1.0, 1.0]
    - - [0.25, 0.0, 0.0]
      - [1.0, 1.0, 1.0]
    part_specific_guidance_prompts:
    - {device: "${guidance.device}", prompt: a car made of LEGO, negative_prompt: ''}
    - {device: "${guidance.device}", prompt: a car made of cheese}
loss: {sds: 0.1}
"""
"""An object of two parts, with values that its own program would look up."""


def test_configs_of_semantic_sds_hold_boxes_too_and_nothing_in_them_is_looked_up():
    lego, cheese = parse_layout(CAR, "car.yaml").boxes
    side = 2 * REACH / 3**0.5
    assert (lego.prompt, cheese.prompt) == ("a car made of LEGO", "a car made of cheese")
    assert lego.size == pytest.approx((side / 4, side, side), abs=2e-3)
    assert lego.center == pytest.approx((-3 * side / 8, 0, 0), abs=2e-3)
    assert cheese.center == pytest.approx((side / 8, 0, 0), abs=2e-3)


def test_a_config_and_the_planners_file_of_the_same_scene_are_the_same_layout():
    scene = semantic()
    objects = []
    for model in scene["scene_models"]:
        whole = {"prompt": "a car", "min_corner": [0, 0, 0], "max_corner": [1, 1, 1]}
        parts = model.get("parts_in_local_01_coords", [whole])
        objects.append(
            {
                "bbox_dimensions": [model["dimensions"][axis] for axis in "xyz"],
                "xyz_offset": [model["position"][axis] for axis in "xyz"],
                "part_space_ratios": [[p["min_corner"], p["max_corner"]] for p in parts],
                "part_specific_guidance_prompts": [{"prompt": p["prompt"]} for p in parts],
            }
        )
    text = yaml.safe_dump({"init": {"type": "multiple_groups", "subinit": objects}})
    found, planned = parse_layout(text, "conf.yaml"), parse_layout(json.dumps(scene), "x.json")
    assert found.boxes == planned.boxes


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[0.25, 1.0, 1.0]", "[0.25, 1.0, 2.0]", r"part_space_ratios\[0\].max_corner has 2.0"),
        ("- [0.25, 1.0, 1.0]", "- 3", "must be a list of 3 numbers"),
        ("  - prompt: A car\n   ", "  - 3\n  - prompt: A car\n   ", "must hold a mapping"),
        ("    - {device", "    - {prompt: more}\n    - {device", "2 parts and 4 prompts"),
        ("    xyz_offset: [0, 0, 0]", "    bbox_dimensions: [1, 0, 1]", "must be positive"),
        ("a car made of LEGO", "3", "must be text"),
        ("a car made of LEGO", '"${oc.env:HOME}"', r"plain text without '\$\{'"),
        ("part_space_ratios", "ratios", "part_space_ratios must be a list"),
    ],
)
def test_what_is_odd_in_a_config_of_semantic_sds_is_refused(old: str, new: str, message: str):
    assert old in CAR
    with pytest.raises(InputError, match=message):
        parse_layout(CAR.replace(old, new), "car")


def test_the_setting_layout_takes_files_of_others_too(tmp_path: Path):
    for name, text in (("scene.txt", LUCID), ("scene.json", json.dumps(semantic()))):
        path = tmp_path / name
        path.write_text(text)
        assert given_layout(str(path), "a scene") == parse_layout(text, name)
