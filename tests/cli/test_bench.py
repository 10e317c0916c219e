"""Claims about `dreamlab bench ops`, with everything at its smallest."""

import json

import pytest
import torch
from typer.testing import CliRunner

from dreamlab.cli.main import app
from dreamlab.evaluation.speed import kernels, main_job, suite, surfaces
from dreamlab.evaluation.speed.figures import CAN_TIME_THREADS, Figure, Goal

TINY = (
    *("--recipe", "toybox-nerf"),
    "stages.nerf.views=1",
    "stages.nerf.milestones=[{until: 1.0, size: 16}]",
    "stages.nerf.representation.grid.num_levels=4",
    *("--points", "80", "--gaussians", "50", "--cells", "4", "--warm-up", "1", "--repeats", "1"),
)


def run(*arguments: str):
    return CliRunner().invoke(app, ["bench", "ops", *arguments], catch_exceptions=False)


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
