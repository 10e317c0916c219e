"""Claims about the recipes with layouts."""

from collections import Counter

import pytest

from dreamlab.core.errors import InputError
from dreamlab.core.schedules import value_at
from dreamlab.export.files.writers import read_gltf_json
from dreamlab.jobs import export, views
from dreamlab.jobs.generate import generate, prepare
from dreamlab.jobs.recipes import load_recipe
from dreamlab.jobs.settings import list_settings

PROMPT = "a red mushroom next to a blue car"
APART = ("stages.mesh.start_from=null", "stages.mesh.representation.resolution=20")
"""The last stage begins with a body in each box."""


def test_semantic_sds_has_the_published_hyperparameters_in_our_conventions():
    stage = load_recipe("semantic-sds", prompt=PROMPT).stages["gaussians"]
    assert stage.steps == 15_000 and stage.size_at(0.5) == 512
    assert stage.guidance["guidance_scale"] == 101 and stage.guidance["latent_weight"] == 0.1
    assert (stage.cameras.elevation[0], stage.cameras.distance) == (-20, (2.5, 3.5))
    rates = stage.optimizer.lr
    assert value_at(rates["mean"], 0.0) == pytest.approx(5e-3)
    assert value_at(rates["mean"], 1.0) == pytest.approx(3e-5)
    assert (rates["rotation"], rates["color"], rates["opacity"]) == (3e-3, 1e-2, 3e-3)
    shown = Counter(stage.passes.round(3))
    assert shown == {(0,): 6, (1,): 6, (2,): 6, (0, 1): 1, (0, 2): 1, (1, 2): 1, (0, 1, 2): 1}
    assert stage.semantic.scene_share == 0 and round(stage.semantic.margin * 64) == 2


@pytest.mark.parametrize("name", ["toybox", "semantic-sds"])
def test_a_layout_follows_from_the_prompt_and_can_be_given_instead(name: str, tmp_path):
    layout = load_recipe(name, prompt=PROMPT).layout
    assert layout is not None
    assert [box.prompt for box in layout.boxes] == ["a red mushroom", "a blue car"]
    own = "{boxes: [{prompt: a cat, center: [0, 0, 0], size: [1, 1, 1]}]}"
    given = load_recipe(name, overrides=[f"layout={own}"], prompt=PROMPT).layout
    assert given is not None and [box.prompt for box in given.boxes] == ["a cat"]
    assert given.prompt is None
    with pytest.raises(InputError, match="cannot read"):
        load_recipe(name, overrides=[f"layout={tmp_path / 'none.yaml'}"], prompt=PROMPT)


def test_toybox_gives_boxes_to_several_things_and_none_to_one():
    several, one = (load_recipe(prompt=words) for words in (PROMPT, "a red and white mushroom"))
    none = load_recipe(overrides=["layout=null"], prompt=PROMPT)
    assert several.layout is not None and one.layout is None
    assert (none.layout, none.stages) == (None, one.stages)
    for name, stage in one.stages.items():
        other = several.stages[name]
        assert stage.passes.alone == 0 and other.passes.alone > 0
        for part in ("representation", "renderer", "guidance", "cameras", "steps"):
            assert getattr(stage, part) == getattr(other, part)
        assert stage.losses == {k: v for k, v in other.losses.items() if k != "box_excess"}


def test_what_a_recipe_changes_with_a_layout_stands_below_overrides(tmp_path):
    key = "stages.mesh.passes.alone"
    assert load_recipe(overrides=[f"{key}=7"], prompt=PROMPT).stages["mesh"].passes.alone == 7
    path = tmp_path / "own.yaml"
    path.write_text(
        "description: mine\ncost: {}\nextends: toybox\nwith_layout: {stages: {msh: {steps: 3}}}\n"
    )
    with pytest.raises(InputError, match=r"stages\.msh"):
        load_recipe(str(path), prompt="a red mushroom")


@pytest.mark.parametrize("words", ["a mushroom next to", "in front of a car", "a mushroom, red"])
def test_words_that_relate_nothing_to_something_ask_for_no_boxes(words: str):
    assert load_recipe(prompt=words).layout is None


def test_settings_of_layouts_are_listed_with_what_they_mean():
    listed = {s.key: s for s in list_settings("toybox")}
    assert listed["stages.mesh.passes.alone"].value == 0
    assert listed["stages.mesh.semantic.scene_share"].doc
    assert listed["layout"].doc


@pytest.mark.slow
def test_a_run_with_a_layout_exports_its_objects_and_an_older_one_can_too(
    tmp_path, small_settings, monkeypatch
):
    monkeypatch.setattr(views, "FRAMES", 2)
    monkeypatch.setattr(views, "MESH_SIZE", 32)
    monkeypatch.setattr(views, "SHEET_SIZE", 32)
    monkeypatch.setattr(export, "REFERENCE_SIZE", 48)
    config = load_recipe("toybox", "draft", [*small_settings, *APART], prompt=PROMPT)
    outcome = generate(config, prepare(config, tmp_path), device="cpu")
    glb, names = outcome.folder.exports / "model.glb", ["a-red-mushroom", "a-blue-car"]
    assert [node["name"] for node in read_gltf_json(glb)["nodes"]] == names
    assert list(outcome.report["export"]["objects"]) == names
    assert outcome.report["export"]["valid"] and outcome.folder.turntable.is_file()

    path = outcome.folder.config
    before = path.read_text()
    path.write_text(before.replace("  parts: separate\n", ""))
    assert path.read_text() != before, "as before there was this setting"
    again = export.export(outcome.folder, formats=["obj"], device="cpu")
    assert list(again.report.objects) == names
    export.export(outcome.folder, overrides=["export.parts=joined"], device="cpu")
    assert [node["name"] for node in read_gltf_json(glb)["nodes"]] == [PROMPT.replace(" ", "-")]


@pytest.mark.slow
def test_objects_with_a_representation_each_go_through_all_stages_to_their_nodes(
    tmp_path, small_settings, monkeypatch
):
    monkeypatch.setattr(views, "FRAMES", 2)
    monkeypatch.setattr(views, "MESH_SIZE", 32)
    monkeypatch.setattr(views, "SHEET_SIZE", 32)
    monkeypatch.setattr(export, "REFERENCE_SIZE", 48)
    each = [f"stages.{name}.representation.per_object=true" for name in ("gaussians", "mesh")]
    config = load_recipe("toybox", "draft", [*small_settings, *each], prompt=PROMPT)
    outcome = generate(config, prepare(config, tmp_path), device="cpu")
    glb, names = outcome.folder.exports / "model.glb", ["a-red-mushroom", "a-blue-car"]
    assert [node["name"] for node in read_gltf_json(glb)["nodes"]] == names
    objects = outcome.report["export"]["objects"]
    assert list(objects) == names and outcome.report["export"]["valid"]
    assert all(found["watertight"] for found in objects.values())
    again = export.export(outcome.folder, overrides=["export.surface=tsdf"], device="cpu")
    assert list(again.report.objects) == names
    key = each[1].replace("true", "false")
    with pytest.raises(InputError, match="neither cut apart nor melted together"):
        generate(
            load_recipe("toybox", "draft", [*small_settings, each[0], key], prompt=PROMPT),
            prepare(config, tmp_path),
            device="cpu",
        )
