"""Claims about `dreamlab layout`: words, files of several kinds and a language model."""

import json

import pytest
import yaml
from chat_double import ChatDouble
from PIL import Image
from typer.testing import CliRunner

from dreamlab.cli.main import app
from dreamlab.core.config import to_plain
from dreamlab.jobs.layouts.words import layout_of

PROMPT = "a red mushroom next to a blue car"
LUCID = "[('a cat', [0, 0, 0, 256, 256, 256]), ('a dog', [0, 256, 0, 256, 256, 256])]"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(app, ["layout", *arguments], catch_exceptions=False)


@pytest.mark.parametrize("name", [(), ("draw",)])
def test_a_prompt_is_drawn_with_and_without_the_name_of_the_command(here, name):
    result = run(*name, PROMPT, "--picture", "scene.png")
    assert yaml.safe_load(result.stdout) == to_plain(layout_of(PROMPT))
    assert Image.open(here / "scene.png").width > 100


def test_a_list_of_boxes_is_imported_and_what_is_printed_is_read_again(here):
    (here / "scene.txt").write_text(LUCID)
    printed = run("import", "scene.txt").stdout
    (here / "scene.yaml").write_text(printed)
    assert run("scene.yaml").stdout == printed
    assert [box["prompt"] for box in yaml.safe_load(printed)["boxes"]] == ["a cat", "a dog"]


def test_a_language_model_plans_and_the_key_is_not_shown(here, monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-1234")
    content = to_plain(layout_of(PROMPT))
    with ChatDouble(json.dumps(content)) as server:
        options = ("--llm", server.url, "--model", "tiny", "--key-env", "A_KEY")
        result = run("plan", PROMPT, *options, "--json")
    (event,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert event["kind"] == "layout" and event["boxes"] == content["boxes"]
    assert server.headers[0]["Authorization"] == "Bearer sk-1234"
    assert "sk-1234" not in result.stdout + result.stderr


def test_mistakes_are_two_lines_and_no_endpoint_means_no_question(here):
    (here / "scene.txt").write_text("[('a cat', [0, 0, 0])]")
    for arguments in ((), ("import", "scene.txt"), (PROMPT, "-p", "scene.jpg")):
        result = run(*arguments)
        assert result.exit_code == 2 and result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 2
    result = run("plan", PROMPT, "--llm", "http://example.org/v1", "--model", "tiny")
    assert result.exit_code == 2 and "on another computer" in result.stderr
    assert run("plan", PROMPT).exit_code == 2
