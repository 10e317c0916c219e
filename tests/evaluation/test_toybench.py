"""ToyBench on runs whose models are the exported truths themselves."""

import json
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from shapes import fake_done_prompt

from dreamlab.core.errors import InputError
from dreamlab.evaluation.child import Outcome, write_outcome
from dreamlab.evaluation.prompts import bench_prompts
from dreamlab.evaluation.tables import summary
from dreamlab.evaluation.toybench import Bench, BenchConfig, assess, load_rows, prompt_folder, run
from dreamlab.priors.toybox.judge.network import FOLDER, load_judge
from dreamlab.training.events import Event

FAILING = (sys.executable, "-c", "import sys; sys.exit('no prior here')")
CONFIG = BenchConfig(prompts=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bench, list[Event]]:
    """A bench of two prompts: one was done before, the other one fails, twice."""
    folder = tmp_path_factory.mktemp("bench")
    fake_done_prompt(folder, 0)
    write_outcome(prompt_folder(folder, 1), Outcome(5, 1.0, 1.0, "", "diverged"))
    events: list[Event] = []
    return folder, run(CONFIG, folder, None, on_event=events.append, command=FAILING), events


def test_the_exported_truth_measures_as_the_truth(
    finished: tuple[Path, Bench, list[Event]],
) -> None:
    _, bench, _ = finished
    row = bench.rows[0]
    assert row.measures is not None
    assert row.measures.silhouette_iou > 0.97
    assert row.measures.chamfer < 0.01
    assert row.measures.color_error is not None and row.measures.color_error < 4
    assert row.truth.silhouette_iou == 1.0
    assert row.measures.r_precision is None and row.measures.facing is None


def test_what_is_done_is_not_made_again_and_what_failed_is_tried_again_and_recorded(
    finished: tuple[Path, Bench, list[Event]],
) -> None:
    _, bench, events = finished
    assert [row.outcome.exit_code for row in bench.rows] == [0, 1]
    assert bench.rows[1].measures is None
    assert bench.rows[1].error == "no prior here"
    warnings = [event.values["message"] for event in events if event.kind == "warning"]
    assert warnings == [f"{bench_prompts()[1].text}: no prior here"]
    assert [e.kind for e in events].count("phase") == [e.kind for e in events].count("phase_done")


def test_results_are_written(finished: tuple[Path, Bench, list[Event]]) -> None:
    folder, bench, _ = finished
    assert {path.name for path in bench.files} == {
        "toybench.md",
        "toybench.json",
        "sheet-seen.png",
        "sheet-held-out.png",
    }
    results = json.loads((folder / "toybench.json").read_text())
    assert [row["prompt"] for row in results["prompts"]] == [p.text for p in bench_prompts()[:2]]
    assert results["summary"]["failed"] == 1
    table = (folder / "toybench.md").read_text()
    assert "no prior here" in table and "an orange flower" in table
    with Image.open(folder / "sheet-seen.png") as sheet:
        assert sheet.width > 8 * 96 and sheet.height >= 96


def test_results_are_read_back_as_they_were(finished: tuple[Path, Bench, list[Event]]) -> None:
    folder, bench, _ = finished
    title, rows = load_rows(folder)
    assert title == "recipe toybox, quality standard, seed 0"
    assert summary(rows) == summary(bench.rows)


def test_results_of_another_version_are_refused(
    finished: tuple[Path, Bench, list[Event]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"toybench\.json cannot be read"):
        load_rows(tmp_path)
    results = json.loads((finished[0] / "toybench.json").read_text())
    del results["prompts"][0]["measures"]["color_error"]
    (tmp_path / "toybench.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match=r"'measures.color_error' is missing.*bench toybench"):
        load_rows(tmp_path)


def test_a_model_that_cannot_be_read_is_recorded(tmp_path: Path) -> None:
    place = prompt_folder(tmp_path, 0)
    exports = place / "run" / "exports"
    exports.mkdir(parents=True)
    (place / "run" / "config.yaml").write_text("prompt: x\n")
    (exports / "model.glb").write_bytes(b"glTF broken")
    outcome = Outcome(0, 20.0, 1.5, "run", "")
    row, _ = assess(bench_prompts()[0], place, outcome, None)
    assert row.measures is None
    assert "model.glb" in row.error


def test_a_folder_of_a_bench_with_other_settings_is_refused(
    finished: tuple[Path, Bench, list[Event]],
) -> None:
    folder, _, _ = finished
    with pytest.raises(InputError, match="seed was 0"):
        run(BenchConfig(prompts=2, seed=1), folder, None, command=FAILING)


def test_prompts_made_at_the_same_time_are_told_in_their_order(tmp_path: Path) -> None:
    meet = (
        "import pathlib, sys, time\n"
        f"here = pathlib.Path({str(tmp_path)!r}) / sys.argv[2].replace(' ', '-')\n"
        "here.touch()\n"
        "end = time.monotonic() + 30\n"
        "while len(list(here.parent.glob('a*'))) < 2 and time.monotonic() < end: time.sleep(0.05)\n"
        "sys.exit(str(len(list(here.parent.glob('a*')))))"
    )
    config = BenchConfig(prompts=2, workers=2)
    bench = run(config, tmp_path / "bench", None, command=(sys.executable, "-c", meet))
    assert [row.error for row in bench.rows] == ["2", "2"]
    assert [row.prompt for row in bench.rows] == list(bench_prompts()[:2])


def test_a_bench_that_breaks_off_leaves_no_process(tmp_path: Path) -> None:
    def refuse(event: Event) -> None:
        if event.kind == "progress":
            raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
        config = BenchConfig(prompts=4, workers=2)
        run(config, tmp_path / "bench", None, on_event=refuse, command=sleeper)
    assert time.monotonic() - begin < 30
    assert not list((tmp_path / "bench").glob("prompts/*/outcome.json"))


def test_wrong_settings_are_refused_before_anything_runs(tmp_path: Path) -> None:
    for config in (
        BenchConfig(recipe="nosuch"),
        BenchConfig(quality="best"),
        BenchConfig(overrides=("stages.gaussians.stepz=3",)),
    ):
        with pytest.raises(InputError):
            run(config, tmp_path / "bench", None, command=FAILING)
    assert not (tmp_path / "bench").exists()
    with pytest.raises(ValueError, match="prompts"):
        BenchConfig(prompts=49)


@pytest.mark.slow
@pytest.mark.skipif(not (FOLDER / "judge.safetensors").exists(), reason="there is no trained judge")
def test_the_judge_recognises_exported_truths(tmp_path: Path) -> None:
    numbers = range(8)
    for number in numbers:
        fake_done_prompt(tmp_path, number)
    bench = run(BenchConfig(prompts=len(numbers)), tmp_path, load_judge(), command=FAILING)
    precisions = [row.measures.r_precision for row in bench.rows if row.measures]
    assert sum(p or 0.0 for p in precisions) / len(numbers) > 0.75
    facings = [row.measures.facing for row in bench.rows if row.measures and row.measures.facing]
    assert sum(facing.correct for facing in facings) >= 0.8 * len(facings)


def test_prompts_can_be_chosen_by_their_objects():
    one, several = (BenchConfig(objects=objects).numbers for objects in ("one", "several"))
    assert sorted(one + several) == list(range(48)) == BenchConfig().numbers
    assert all(" a " in bench_prompts()[number].text for number in several)
    assert BenchConfig(objects="several", prompts=3).numbers == several[:3]
    prompts, front = bench_prompts(), BenchConfig(objects="front").numbers
    assert set(front) < set(one) and all(prompts[n].has_janus_answer for n in front)
    assert len(front) == sum(prompt.has_janus_answer for prompt in prompts)
    assert BenchConfig(objects="three").numbers == list(range(48, 56))
