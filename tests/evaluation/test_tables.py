"""Figures: failures count, ceilings stand beside, what was not asked is left out."""

import json
from dataclasses import replace

import pytest

from dreamlab.core.errors import InputError
from dreamlab.evaluation.child import Outcome
from dreamlab.evaluation.measure import Measures
from dreamlab.evaluation.metrics import Facing
from dreamlab.evaluation.prompts import bench_prompts
from dreamlab.evaluation.rows import Row, row_from_plain, row_to_plain
from dreamlab.evaluation.tables import comparison, phase_seconds, report, summary

GOOD = Measures(1.0, 0.0, 0.0, 0.0, 0.9, Facing(True, True, 1))


def row(number: int, measures: Measures | None, truth: Measures = GOOD) -> Row:
    report = {"seconds": {"nerf": 10.0 + number, "total": 12.0}, "export": {"silhouette_iou": 0.98}}
    return Row(
        prompt=bench_prompts()[number],
        outcome=Outcome(0 if measures else 4, 100.0 + number, 2.0, "run", ""),
        error="" if measures else "out of memory | sadly",
        report=report if measures else {},
        measures=measures,
        truth=truth,
    )


def iou(value: float) -> Measures:
    return Measures(value, 0.1, 10.0, 5.0, value, Facing(True, False, 1))


def test_medians_are_taken_over_seen_held_out_and_all() -> None:
    rows = [row(0, iou(0.5)), row(1, iou(0.6)), row(2, iou(0.9)), row(3, iou(0.8))]
    found = summary(rows)["silhouette IoU, median"]
    assert (found["seen"], found["held out"], found["all"]) == pytest.approx((0.7, 0.7, 0.7))
    assert found["ceiling"] == {"seen": 1.0, "held out": 1.0, "all": 1.0}


def test_a_failed_prompt_counts_as_the_worst_quality_and_not_as_cost() -> None:
    rows = [row(0, iou(0.8)), row(2, None)]
    found = summary(rows)
    assert found["failed"] == 1
    assert found["silhouette IoU, median"]["seen"] == pytest.approx(0.4)
    assert found["R-precision, mean"]["seen"] == pytest.approx(0.4)
    assert found["Chamfer distance, median"]["seen"] is None
    assert found["wall time, median"]["seen"] == 100.0


def test_what_could_not_be_asked_is_left_out() -> None:
    blind = Measures(1.0, 0.0, 0.0, 0.0, None, None)
    found = summary([row(0, blind, truth=blind)])
    assert found["R-precision, mean"]["seen"] is None
    assert found["Janus-correct, share"]["ceiling"]["all"] is None
    plain = Measures(1.0, 0.0, 0.0, 0.0, 1.0, None)
    found = summary([row(0, GOOD), row(2, plain, truth=plain)])
    assert found["Janus-correct, share"]["seen"] == 1.0


def test_an_object_that_shares_no_pixel_with_the_truth_has_the_worst_color() -> None:
    found = summary([row(0, replace(GOOD, color_error=None))])
    assert found["colour error ΔE2000, median"]["seen"] is None


def test_phases_are_medians_over_the_runs_that_had_them() -> None:
    assert phase_seconds([row(0, GOOD), row(2, GOOD), row(4, None)]) == {"nerf": 11.0}


def test_the_report_is_a_well_formed_table_with_every_prompt() -> None:
    rows = [row(0, iou(0.8)), row(1, None), row(2, iou(0.5))]
    text = report(rows, "recipe toybox")
    for line in rows:
        assert f"| {line.prompt.text} |" in text
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
    assert "(100.0%)" not in text.split("R-precision")[1].split("\n")[0]
    assert "(90.0%)" in text


def test_rows_as_plain_values_say_whether_they_are_janus_correct() -> None:
    plain = row_to_plain(row(0, iou(0.8)))
    assert plain["measures"]["janus_correct"] is False
    assert plain["truth"]["janus_correct"] is True
    assert row_to_plain(row(0, None))["measures"] is None


def test_plain_values_become_the_rows_again() -> None:
    for one in (row(0, iou(0.8)), row(1, None)):
        again = row_from_plain(json.loads(json.dumps(row_to_plain(one))))
        assert row_to_plain(again) == row_to_plain(one)
        assert summary([again]) == summary([one])
    with pytest.raises(InputError, match="a red spell"):
        row_from_plain({"prompt": "a red spell"})


def test_benches_are_compared_over_the_prompts_that_all_have() -> None:
    long = [row(0, iou(0.5)), row(1, iou(0.6)), row(2, iou(0.9))]
    text = comparison([("long", long), ("short", [row(1, iou(0.7)), row(2, None)])])
    assert text.startswith("2 prompts, 1 of them held out.")
    of = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    assert "0.750" in of["| long"] and "0.350" in of["| short"]
    assert "| ∞ |" in of["| short"] and "90.0%" in of["| true meshes"]
    assert len({line.count("|") for line in of.values()}) == 1
