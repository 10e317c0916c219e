"""Claims about the command line: quick, helpful, and never a traceback for a user's mistake."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dreamlab
from dreamlab.cli.main import app
from dreamlab.cli.options import complete_quality, complete_recipe
from dreamlab.core.run_folder import RunFolder

COMMANDS = [
    "generate",
    "image",
    "batch",
    "jobs",
    "work",
    "resume",
    "export",
    "recipes",
    "settings",
    "doctor",
    "toybox",
    "bench",
]


def run(*arguments: str):
    """Run the command in this process; the result has exit_code, stdout and stderr."""
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def refused(*arguments: str) -> tuple[int, str]:
    """Run a command that must fail with two lines; return its exit code and those lines."""
    result = run(*arguments)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("error: ") and lines[1].startswith("fix: ")
    assert len(lines[1]) > len("fix: ")
    return result.exit_code, result.stderr


def test_importing_dreamlab_and_its_help_loads_no_torch():
    code = (
        "import sys, dreamlab, dreamlab.cli.main as m\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(m.app, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(m.app, ['generate', '--help']).exit_code == 0\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'warp', 'trimesh', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "import os; assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


def test_help_takes_less_than_a_second_of_processor_time():
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "dreamlab", "--help"], check=True, stdout=subprocess.DEVNULL
    )
    after = os.times()
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < 1.0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert command in result.stdout


@pytest.mark.parametrize("command", [[], ["generate"], ["image"], ["export"], ["settings"]])
def test_help_shows_examples(command):
    assert "Examples:" in run(*command, "--help").stdout


def test_the_version_is_shown():
    assert run("--version").stdout.strip() == f"dreamlab {dreamlab.__version__}"


def test_the_shell_completes_recipes_and_qualities():
    assert complete_recipe("dreamf") == ["dreamfusion"]
    assert complete_quality("st") == ["standard"]


BAD_GENERATE = {
    "no prompt": ([], 2, ["no prompt", "dreamlab generate"]),
    "empty prompt": ([""], 2, ["prompt is empty"]),
    "blank prompt": (["  "], 2, ["prompt is empty"]),
    "overlong prompt": (["a " * 501], 2, ["1002 characters", "1000"]),
    "two lines": (["a\nb"], 2, ["one line"]),
    "interpolation": (["a ${x}"], 2, ["${"]),
    "unquoted prompt": (["a", "red", "mushroom"], 2, ["quote the prompt"]),
    "override as prompt": (["seed=3"], 2, ["prompt first"]),
    "unknown recipe": (["x", "--recipe", "tobyox"], 2, ["'tobyox'", "'toybox'"]),
    "missing recipe file": (["x", "--recipe", "none.yaml"], 2, ["none.yaml"]),
    "unknown quality": (["x", "--quality", "standart"], 2, ["'standart'", "'standard'"]),
    "unknown key": (["x", "stages.gaussians.stpes=3"], 2, ["stages.gaussians.stpes", "'steps'"]),
    "unknown stage": (["x", "stages.gausians.steps=3"], 2, ["stages.gausians", "'gaussians'"]),
    "unknown component": (
        ["x", "stages.gaussians.representation.name=gausians"],
        2,
        ["gausians", "'gaussians'"],
    ),
    "unknown key of a component": (["x", "stages.gaussians.renderer.foo=1"], 2, ["renderer.foo"]),
    "unknown model": (["x", "prior.model=sd16"], 2, ["'sd16'", "'sd15'"]),
    "wrong type": (
        ["x", "stages.gaussians.steps=many"],
        2,
        ["stages.gaussians.steps", "a whole number"],
    ),
    "negative steps": (["x", "stages.gaussians.steps=-5"], 2, ["steps", "-5"]),
    "a schedule in steps": (
        ["x", "stages.gaussians.guidance.guidance_scale={from: 1, to: 2, end: 500}"],
        2,
        ["fractions"],
    ),
    "a mapping for a number": (["x", "export={a: 1}"], 2, ["export.a"]),
    "a number for a mapping": (["x", "export=3"], 2, ["export"]),
    "unreadable value": (["x", "export.height=[1"], 2, ["export.height=[1"]),
    "option as key": (["x", "quality=draft"], 2, ["--quality"]),
    "unknown device": (["a red cube", "--device", "gpu"], 2, ["'gpu'", "cuda"]),
    "missing device": (["a red cube", "--device", "cuda:77"], 3, ["cuda:77", "--device auto"]),
    "unknown format": (["x", "export.formats=[dae]"], 2, ["formats", "dae"]),
    "missing config": (["--config", "none.yaml"], 2, ["none.yaml"]),
    "config and recipe": (["--config", "c.yaml", "--quality", "draft"], 2, ["--config"]),
}


@pytest.mark.parametrize(("arguments", "code", "words"), BAD_GENERATE.values(), ids=BAD_GENERATE)
def test_bad_input_of_generate_is_refused_and_leaves_nothing_behind(
    tmp_path, monkeypatch, arguments, code, words
):
    monkeypatch.chdir(tmp_path)
    got, text = refused("generate", *arguments)
    assert got == code
    for word in words:
        assert word in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("parent", ["file", "/proc/nowhere"])
def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path, parent):
    (tmp_path / "file").write_text("")
    code, text = refused("generate", "a red mushroom", "--output", str(tmp_path / parent))
    assert code == 2 and "--output" in text


def test_a_usage_error_exits_with_2():
    result = run("generate", "x", "--sed", "3")
    assert result.exit_code == 2 and "--seed" in result.stderr


@pytest.mark.parametrize("command", ["resume", "export"])
def test_a_folder_that_is_no_run_is_refused(tmp_path, command):
    code, text = refused(command, str(tmp_path))
    assert code == 2 and "not a run folder" in text


@pytest.mark.parametrize("command", ["resume", "export"])
@pytest.mark.parametrize("text", ["", "prompt: [", "prompt: 3", "- 1", "\x00", "prompt: a\nfoo: 1"])
def test_a_damaged_configuration_of_a_run_is_refused(tmp_path, command, text):
    RunFolder(tmp_path).config.write_text(text)
    code, message = refused(command, str(tmp_path))
    assert code == 2 and "config.yaml" in message


def test_the_configuration_of_another_version_says_which_one_wrote_it(tmp_path):
    from dreamlab.jobs.recipes import load_recipe

    text = load_recipe(prompt="a red mushroom").to_yaml()
    path = tmp_path / "config.yaml"
    path.write_text(text.replace("version: 0.1.0", "version: 0.9.0\nfrom_the_future: 1"))
    code, message = refused("generate", "--config", str(path))
    assert code == 2
    assert "0.9.0" in message and "from_the_future" in message


def test_json_reports_errors_on_stdout_for_machines():
    result = run("--json", "generate", "x", "--recipe", "tobyox")
    (line,) = result.stdout.splitlines()
    event = json.loads(line)
    assert (event["kind"], event["code"]) == ("error", 2)
    assert "tobyox" in event["message"] and event["fix"]


def test_json_may_stand_after_the_command_too():
    before, after = run("--json", "recipes"), run("recipes", "--json")
    assert before.stdout == after.stdout
    names = [json.loads(line)["name"] for line in after.stdout.splitlines()]
    assert {"toybox", "dreamfusion"} <= set(names)


def test_settings_list_every_key_with_its_value_and_meaning():
    result = run("settings", "stages.nerf.guidance", "--recipe", "dreamfusion", "--json")
    settings = {s["key"]: s for s in map(json.loads, result.stdout.splitlines())}
    assert settings["stages.nerf.guidance.guidance_scale"]["value"] == 101
    assert all(setting["doc"] for setting in settings.values())


def test_settings_suggest_the_nearest_key():
    code, text = refused("settings", "exprot")
    assert code == 2 and "'export'" in text


def test_settings_and_recipes_are_tables_for_people():
    assert "texture_size" in run("settings", "export").stdout
    assert "toybox" in run("recipes").stdout


def test_a_bug_is_reported_as_one_with_the_way_to_see_it(monkeypatch):
    def broken() -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("dreamlab.cli.recipes.list_recipes", broken)
    code, text = refused("recipes")
    assert code == 1 and "boom" in text and "DREAMLAB_DEBUG=1" in text
    monkeypatch.setenv("DREAMLAB_DEBUG", "1")
    assert "Traceback" in run("recipes").stderr


def test_words_that_the_embedded_prior_does_not_know_are_warned_about(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("generate", "a red mushrom", "--device", "cuda:77", "--output", str(tmp_path))
    assert "'mushrom'" in result.stderr and "mushroom" in result.stderr
    quiet = run("generate", "a red mushroom", "--device", "cuda:77", "--output", str(tmp_path))
    assert "does not know" not in quiet.stderr


def test_time_is_not_spent_on_torch_for_a_misspelt_recipe(tmp_path):
    begin = time.process_time()
    refused("generate", "x", "--recipe", "tobyox")
    assert time.process_time() - begin < 1.0


def test_a_run_folder_path_is_not_made_by_a_command_that_only_reads(tmp_path):
    refused("resume", str(tmp_path / "nothing"))
    assert not Path(tmp_path / "nothing").exists()


LEADER = """
import sys
from pathlib import Path
import typer
from dreamlab.cli.output import Output, reported
from dreamlab.evaluation.child import generate

sleeper = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"

def lead(folder: Path) -> None:
    with reported(Output(json=True)):
        command = (sys.executable, "-c", sleeper)
        generate(folder, "a red mushroom", [], time_limit=600.0, command=command)

typer.run(lead)
"""


def test_sigterm_ends_a_command_together_with_the_processes_that_it_has_started(tmp_path):
    folder = tmp_path / "prompt"
    leader = subprocess.Popen([sys.executable, "-c", LEADER, str(folder)], stdout=subprocess.PIPE)
    said = folder / "stdout.jsonl"
    while not (said.exists() and said.read_text().endswith("\n")):
        assert leader.poll() is None
        time.sleep(0.05)
    leader.send_signal(signal.SIGTERM)
    told, _ = leader.communicate(timeout=60)
    assert leader.returncode == 130 and json.loads(told)["kind"] == "error"
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.read_text()), 0)


def test_a_handler_of_sigterm_that_somebody_else_has_set_stays():
    from dreamlab.cli.output import Output, reported

    def mine(number, frame):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with reported(Output()):
            assert signal.getsignal(signal.SIGTERM) is mine
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with reported(Output()):
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
