"""Claims about doctor and toybox on the command line."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dreamlab.cli.main import app


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_the_doctor_writes_a_finding_a_line_and_its_exit_code_tells_of_problems(tmp_path):
    result = run("doctor", "--json", "--no-network", "--output", str(tmp_path))
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"kind", "area", "status", "detail", "fix"} <= findings[0].keys()
    has_problem = any(finding["status"] == "problem" for finding in findings)
    assert result.exit_code == (3 if has_problem else 0)


def test_the_doctor_speaks_to_people_too(tmp_path):
    result = run("doctor", "--no-network", "--output", str(tmp_path))
    assert "python" in result.stdout and "op hash_encode" in result.stdout


def test_the_world_is_shown_as_a_picture_with_its_scenes_named(tmp_path):
    path = tmp_path / "world.png"
    result = run("--json", "toybox", "world", "--count", "3", "-o", str(path))
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["scene"] * 3 + ["result"]
    assert np.asarray(Image.open(path)).std() > 5


def test_a_scene_of_the_world_can_be_asked_for_by_its_phrase(tmp_path):
    path = tmp_path / "world.png"
    result = run("--json", "toybox", "world", "a red mushroom", "-o", str(path))
    assert json.loads(result.stdout.splitlines()[0])["caption"] == "a red mushroom"
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)
    assert ((pixels[:, 0] > 150) & (pixels[:, 1:].max(axis=1) < 80)).mean() > 0.02, "it is red"


def test_a_scene_outside_of_the_world_is_refused(tmp_path):
    result = run("toybox", "world", "a red hovercraft", "-o", str(tmp_path / "world.png"))
    assert result.exit_code == 2 and "hovercraft" in result.stderr


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("toybox", "sample"), "--output"),
        (("toybox", "world"), "--output"),
        (("layout", "a cat on top of a table"), "--picture"),
        (("bench", "growth"), "--plot"),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused_before_the_work(words, option, tmp_path):
    path = tmp_path / "picture"
    result = run(*words, option, str(path))
    assert result.exit_code == 2
    assert option in result.stderr and ".png" in result.stderr
    assert not path.exists()


def test_a_wrong_setting_of_the_training_is_refused_before_anything_is_made(tmp_path):
    result = run("toybox", "train", str(tmp_path / "work"), "diffusion.stpes=3")
    assert result.exit_code == 2 and "'steps'" in result.stderr
    assert not (tmp_path / "work").exists()
