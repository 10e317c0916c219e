"""Claims about `dreamlab bench ops` and `backends`, with everything at its smallest."""

import json

import pytest
import torch
from typer.testing import CliRunner

from dreamlab.cli.main import app
from dreamlab.evaluation.speed import contest, kernels, main_job, suite, surfaces
from dreamlab.evaluation.speed.figures import CAN_TIME_THREADS, Figure, Goal
from dreamlab.ops.backends import available

TINY = (
    *("--recipe", "toybox-nerf"),
    "stages.nerf.views=1",
    "stages.nerf.milestones=[{until: 1.0, size: 16}]",
    "stages.nerf.representation.grid.num_levels=4",
    *("--points", "80", "--gaussians", "50", "--cells", "4", "--warm-up", "1", "--repeats", "1"),
)


def run(*arguments: str, command: str = "ops"):
    return CliRunner().invoke(app, ["bench", command, *arguments], catch_exceptions=False)


def test_all_figures_are_taken_and_told_a_line_each(monkeypatch):
    monkeypatch.setattr(main_job, "STEPS", 1)
    monkeypatch.setattr(surfaces, "MESH_CELLS", 4)
    monkeypatch.setattr(kernels, "TABLE_GOALS", {8: 8.0, 7: 10.0})
    threads = torch.get_num_threads()
    result = run(*TINY, "--json", "--quiet")
    assert result.exit_code == 0
    machine, *figures, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert machine["kind"] == "machine" and machine["cores"] >= 1 and "torch" in machine["versions"]
    assert {figure["kind"] for figure in figures} == {"figure"}
    assert all(figure["value"] > 0 and min(figure["times_ms"].values()) > 0 for figure in figures)
    assert [figure["unit"] for figure in figures].count("ms") == 1
    for name, count in (
        ("hash grid, ", 4),
        ("on two threads", 5 * CAN_TIME_THREADS),
        ("rasterize + interpolate + antialias", 2),
        ("each in a row", 1),
        ("splat, forward", 1),
        ("marching tetrahedra", 1),
        ("classifier-free guidance", 1),
        ("steps over their guidance", 1),
        ("steps without guidance", 1),
    ):
        assert sum(name in figure["what"] for figure in figures) == count, name
    assert last == {
        "kind": "result",
        "met": sum(figure["met"] for figure in figures),
        "figures": len(figures),
    }
    assert torch.get_num_threads() == threads


def test_people_get_a_table(monkeypatch):
    figure = Figure("a step", 6.54321, "×", Goal(5.0, "≥"), {"ours": 10.0, "theirs": 65.4})
    monkeypatch.setattr(suite, "measure", lambda config: iter([figure]))
    result = run()
    for text in ("a step", "theirs 65.4", "6.54 ×", "≥ 5 ×", "torch"):
        assert text in result.stdout
    assert "a step: 6.54 ×" in result.stderr


@pytest.mark.parametrize("wrong", [("--recipe", "nope"), ("stages.gaussians.veiws=1",)])
def test_a_wrong_setting_is_refused_before_anything_is_timed(wrong):
    result = run(*wrong)
    assert result.exit_code == 2 and "error:" in result.stderr and result.stdout == ""


CONTESTS = {
    "hash grid": "hash_encode",
    "rasterize": "rasterize",
    "texture": "texture",
    "splat": "splat",
}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_every_backend_of_a_device_takes_part_and_is_told_over_ours(monkeypatch, device):
    monkeypatch.setattr(contest, "MESH_CELLS", 4)
    monkeypatch.setattr(contest, "LOG2_TABLE_SIZE", 8)
    threads = torch.get_num_threads()
    sizes = ("--points", "80", "--gaussians", "50", "--size", "8", "--repeats", "1")
    result = run(*sizes, "--device", device, "--json", "--quiet", command="backends")
    machine, *told, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert machine["kind"] == "machine" and last == {"kind": "result", "contests": len(CONTESTS)}
    for (name, op), line in zip(CONTESTS.items(), told, strict=True):
        assert line["what"].startswith(name)
        times = line["times_ms"]
        assert list(times) == available(op, device) and min(times.values()) > 0
        assert line["ours"] == ("reference" if op == "texture" else "warp")
        ours = times[line["ours"]]
        assert line["over_ours"] == {name: time / ours for name, time in times.items()}
    assert torch.get_num_threads() == threads


def test_people_see_who_is_ours_and_who_is_faster(monkeypatch):
    held = contest.Contest("a dance", "warp", {"reference": 30.0, "warp": 20.0, "gsplat": 10.0})
    monkeypatch.setattr(contest, "contests", lambda config, device: iter([held]))
    result = run(command="backends")
    for text in ("a dance", "warp (ours)", "1.50 ×", "0.50 ×", "torch"):
        assert text in result.stdout
