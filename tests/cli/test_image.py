"""Claims about `dreamlab image`, with a tiny random model."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import save_tiny_pipeline
from typer.testing import CliRunner

from dreamlab.cli.main import app
from dreamlab.core.config import load_yaml
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import state
from dreamlab.training.stop import StopFlag

SMALL = ("stages.image.steps=16", "stages.image.milestones=[{until: 1.0, size: 32}]")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return f"prior.model={save_tiny_pipeline(tmp_path_factory.mktemp('model'))}"


def folder_of(result) -> RunFolder:
    events = [json.loads(line) for line in result.stdout.splitlines()]
    return RunFolder.open(Path(events[-1]["folder"]))


def test_it_leaves_a_picture_a_strip_and_a_report(tmp_path, model):
    clipped = "stages.image.pixel_gradient={policy: norm2, rgb: 0.01}"
    options = ("--json", "--quiet", "--output", str(tmp_path), "--seed", "3")
    result = run("image", "a red mushroom", model, *SMALL, clipped, *options)
    assert result.exit_code == 0, result.stderr
    folder = folder_of(result)
    picture = np.asarray(Image.open(folder.image))
    assert picture.shape == (32, 32, 3) and picture.std() > 0
    assert len(list(folder.previews.glob("*.webp"))) == 8
    assert Image.open(folder.strip).width > 8 * 128
    report = json.loads(folder.report.read_text())
    assert report["complete"] and report["export"] is None and report["seed"] == 3
    metrics = report["stages"]["image"]["metrics"]
    assert metrics["rgb_clipped"] > 0.5 and metrics["rgb_gradient_p99"] > 0.01
    assert list(report["seconds"]) == ["load prior", "image", "picture", "total"]
    assert state.read(folder).state == "done"
    assert load_yaml(folder.config)["recipe"] == "toybox-image"
    refused = run("export", str(folder.root))
    assert refused.exit_code == 2 and "makes a picture" in refused.stderr


def test_a_stopped_picture_is_kept_and_resumed_to_the_same_result(tmp_path, model):
    from dreamlab.jobs.generate import generate, prepare, resume
    from dreamlab.jobs.recipes import load_recipe

    config = load_recipe("toybox-image", overrides=[model, *SMALL], prompt="a red mushroom")
    stop = StopFlag()

    def stop_at_five(event) -> None:
        if event.kind == "step" and event.values["step"] == 5:
            stop.set()

    folders = [prepare(config, tmp_path) for _ in range(2)]
    stopped = generate(config, folders[0], device="cpu", stop=stop, on_event=stop_at_five)
    assert stopped.was_stopped and stopped.files[0] == folders[0].image
    resumed = resume(folders[0], device="cpu")
    straight = generate(config, folders[1], device="cpu")
    assert not resumed.was_stopped
    pictures = [np.asarray(Image.open(outcome.files[0])) for outcome in (resumed, straight)]
    assert np.array_equal(*pictures)


def test_another_rule_keeps_the_settings_that_it_has_too(tmp_path, monkeypatch):
    from dreamlab.jobs.recipes import load_recipe

    package = tmp_path / "other_rules"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "pull.py").write_text(
        "from dataclasses import dataclass\n\n"
        "@dataclass(frozen=True)\nclass Config:\n"
        "    guidance_scale: float = 1.0\n    strength: float = 2.0\n\n"
        "def build(config, prior, prompts): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = load_recipe(
        "toybox-image",
        overrides=["stages.image.guidance.strength=3"],
        prompt="a duck",
        guidance="other_rules.pull",
    )
    expected = {"name": "other_rules.pull", "guidance_scale": 8.0, "strength": 3.0}
    assert config.stages["image"].guidance == expected
    same = [load_recipe("toybox-image", prompt="a duck", guidance=g) for g in (None, "sds")]
    assert same[0] == same[1]


BAD = {
    "no prompt": ([], ["no prompt", "dreamlab image"]),
    "unquoted prompt": (["a", "duck"], ["quote the prompt", "dreamlab image"]),
    "unknown rule": (["x", "--guidance", "sdss"], ["'sdss'", "'sds'"]),
    "unknown recipe": (["x", "--recipe", "toybox-imge"], ["'toybox-image'"]),
    "unknown key": (["x", "stages.image.pixel_gradent.rgb=1"], ["'pixel_gradient'"]),
    "unknown policy": (["x", "stages.image.pixel_gradient.policy=norm"], ["'norm2'"]),
    "unknown way back": (["x", "stages.image.encoder_gradient=linaer"], ["'linear'"]),
    "an object": (["x", "--recipe", "toybox"], ["not a picture", "dreamlab generate"]),
    "an object's renderer": (["x", "stages.image.renderer.name=flt"], ["'flat'"]),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_two_lines_and_leaves_nothing_behind(
    tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    result = run("image", *arguments)
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == 2 and len(lines) == 2, result.stderr
    assert lines[0].startswith("error: ") and lines[1].startswith("fix: ")
    for word in words:
        assert word in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_yours_is_edited_by_the_difference_of_two_prompts(tmp_path, model):
    begin = np.linspace(40, 200, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    Image.fromarray(begin).save(tmp_path / "mine.png")
    given = f"stages.image.start_from={tmp_path / 'mine.png'}"
    said = "stages.image.guidance.reference_prompt=a red mushroom"
    options = ("--guidance", "dds", "--json", "--quiet", "--output", str(tmp_path / "runs"))
    few = ("stages.image.steps=3", *SMALL[1:], "stages.image.representation.size=32")
    result = run("image", "a blue mushroom", model, *few, given, said, *options)
    assert result.exit_code == 0, result.stderr
    found = np.asarray(Image.open(folder_of(result).image)).astype(int)
    changed = np.abs(found - begin)
    assert 0 < changed.max() and changed.mean() < 12, "three steps away from where it began"
    refused = run("image", "a blue mushroom", model, *few, said, *options)
    assert refused.exit_code == 2 and "chair.png" in refused.stdout + refused.stderr
