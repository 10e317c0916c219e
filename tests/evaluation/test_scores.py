"""Scores of finished runs: what they say, and when they are made anew."""

import json
import os
from pathlib import Path

import pytest
import torch
from shapes import export_truth
from torch import Tensor

from dreamlab.core.run_folder import RunFolder
from dreamlab.evaluation.prompts import bench_prompts
from dreamlab.evaluation.scores import JUDGE, Made, Scorer, load_scorer, score_runs
from dreamlab.jobs.batch.results import read_scores


class Redness:
    """Knows one thing of pictures and captions: whether there is red in them."""

    def __init__(self) -> None:
        self.asked = 0

    def embed_images(self, images: Tensor) -> Tensor:
        red = (images[..., 0] - images[..., 2]).amax(dim=(1, 2)) > 0.3
        return torch.stack([red, ~red], dim=1).float()

    def embed_captions(self, captions: list[str]) -> Tensor:
        self.asked += 1
        red = torch.tensor(["red" in caption for caption in captions])
        return torch.stack([red, ~red], dim=1).float()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The exported truth of the first prompt of ToyBench."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "first")
    folder.exports.mkdir(parents=True)
    export_truth(0, folder.exports / "model.glb")
    return folder


def test_the_truth_fits_its_prompt_and_itself(run: RunFolder) -> None:
    prompts = [other.text for other in bench_prompts()[:6]]
    other = RunFolder(run.root.with_name("other"))
    runs = [Made(run, prompts[0]), *(Made(other, prompt) for prompt in prompts[1:])]
    problems = score_runs(runs, load_scorer(JUDGE))
    assert len(problems) == 5 and "No such file" in problems[0]
    scores = read_scores(run)
    assert scores["r_precision"] > 0.8 and scores["true_iou"] > 0.97
    assert scores["true_chamfer"] < 0.01 and scores["true_color_error"] < 4
    assert scores["janus_correct"] in (0.0, 1.0)


def test_a_model_of_another_world_gives_two_numbers(run: RunFolder) -> None:
    """The flower of ToyBench is orange, which has red in it."""
    scorer = Scorer("redness", Redness(), 32)
    gone = RunFolder(run.root.with_name("gone"))
    score_runs([Made(run, "something red"), Made(gone, "a green cone")], scorer)
    assert read_scores(run) == {"similarity": 1.0, "r_precision": 1.0}
    score_runs([Made(run, "a green cone"), Made(gone, "something red")], scorer)
    assert read_scores(run) == {"similarity": 0.0, "r_precision": 0.0}


def test_scores_are_made_anew_only_when_export_model_or_prompts_change(run: RunFolder) -> None:
    model = Redness()

    def score(*others: str) -> int:
        before = model.asked
        runs = [Made(run, "something red"), *(Made(run, other) for other in others)]
        score_runs(runs[:1] if not others else runs, Scorer("redness", model, 16))
        return model.asked - before

    assert score() > 0
    assert score() == 0
    os.utime(run.exports / "model.glb", ns=(1, 1))
    assert score() > 0
    assert score("a cube") > 0


def test_damaged_scores_count_as_none(run: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for content in ("", "[]", "{}", '{"scores": 3}', json.dumps({"scores": {"a": "b"}})):
        folder.scores.write_text(content)
        assert read_scores(folder) == {}
