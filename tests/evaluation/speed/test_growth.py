"""Claims about the growth of cost: the exponent that is fitted, its picture, and the command."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from dreamlab.cli.main import app
from dreamlab.evaluation.speed import growth
from dreamlab.evaluation.speed.growth import Growth
from dreamlab.evaluation.speed.growth_plot import LINE, POINT, draw_growth

SIZES = (10, 40, 90, 1000)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found_whatever_its_factor(power):
    series = Growth("x", SIZES, [3.7 * size**power for size in SIZES])
    assert series.exponent == pytest.approx(power)
    assert series.fitted(250) == pytest.approx(3.7 * 250**power)
    assert series.is_linear_at_most == (power <= 1)


def test_a_fixed_cost_lowers_the_exponent_and_noise_on_both_sides_leaves_it():
    assert Growth("x", SIZES, [50.0 + size for size in SIZES]).exponent < 0.8
    noisy = [size * (1.1 if i % 2 else 1 / 1.1) for i, size in enumerate((10, 100, 100, 10))]
    assert Growth("x", (10, 100, 100, 10), noisy).exponent == pytest.approx(1)


def test_the_picture_shows_every_series():
    series = [Growth(f"s{i}", SIZES, [float(size) for size in SIZES]) for i in range(4)]
    pixels = np.asarray(draw_growth(series))
    assert pixels.shape == (460, 900, 3)
    for row in range(2):
        panel = pixels[230 * row : 230 * (row + 1), :300]
        for color in (POINT, LINE):
            assert (panel == color).all(axis=-1).sum() > 50


def test_the_command_tells_sizes_times_and_exponents(monkeypatch, tmp_path):
    for name, sizes in {
        "GAUSSIANS": (20, 40),
        "SIDES": (8, 16),
        "CELLS": (4, 6),
        "POINTS": (64, 128),
        "FEW_GAUSSIANS": 20,
        "MESH_CELLS": 4,
    }.items():
        monkeypatch.setattr(growth, name, sizes)
    plot = tmp_path / "growth.png"
    arguments = ["bench", "growth", "--repeats", "1", "--plot", str(plot), "--json", "--quiet"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and plot.stat().st_size > 0
    *series, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(series) == last["series"] == 5
    for line in series:
        assert len(line["sizes"]) == len(line["times_ms"]) == 2
        assert line["sizes"][0] < line["sizes"][1] and min(line["times_ms"]) > 0
