"""A stage with dds, in training: it starts from a file, and goes on from a checkpoint."""

from pathlib import Path

import pytest
import torch
import trimesh
from toy_run import Losses, stop_after, toy_stage, toy_train

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.recipes import load_recipe, words_unknown_to_prior
from dreamlab.priors.load import load_prior
from dreamlab.training.loop import check_stages, train
from dreamlab.training.stop import StopFlag


@pytest.fixture
def block(tmp_path: Path) -> Path:
    path = tmp_path / "block.glb"
    trimesh.creation.box((1.0, 0.5, 0.7)).export(path)
    return path


def edit_stage(path: Path | None, reference_prompt: str = "a blue back", **changes):
    return toy_stage(
        **{
            "steps": 4,
            "start_from": None if path is None else str(path),
            "representation": {"name": "gaussians", "count": 200, "max_count": 200},
            "renderer": {"name": "splat"},
            "guidance": {"name": "dds", "reference_prompt": reference_prompt},
            "losses": {},
            **changes,
        }
    )


def test_a_resumed_run_compares_with_what_the_first_process_began_with(block, tmp_path):
    stages = {"edit": edit_stage(block)}
    whole = Losses()
    uninterrupted = toy_train(tmp_path / "whole", stages, on_event=whole)
    stop = StopFlag()
    toy_train(tmp_path / "cut", stages, on_event=stop_after(stop, ("edit", 2)), stop=stop)
    block.unlink()
    again = Losses()
    resumed = toy_train(tmp_path / "cut", stages, on_event=again, resume=True)
    assert resumed.is_finished and again.of == {k: whole.of[k] for k in again.of}
    state = resumed.stage.state()
    assert any(name.startswith("reference.representation.") for name in state)
    for name, tensor in uninterrupted.stage.state().items():
        assert torch.equal(state[name], tensor), name


def test_a_stage_that_edits_must_have_something_to_edit_and_know_what_it_is(block):
    with pytest.raises(InputError, match=r"starts afresh.*stages\.edit\.start_from"):
        check_stages({"edit": edit_stage(None)})
    with pytest.raises(InputError, match=r"not said.*stages\.edit\.guidance\.reference_prompt"):
        check_stages({"edit": edit_stage(block, " ")})
    check_stages({"edit": edit_stage(block)})


@pytest.mark.slow
def test_the_recipe_recolours_a_model_with_the_embedded_prior(block, tmp_path):
    overrides = [
        f"stages.edit.start_from={block}",
        "stages.edit.guidance.reference_prompt=a red zorkly cube",
        "stages.edit.steps=2",
        "stages.edit.representation.grid.log2_table_size=10",
        "stages.edit.milestones=[{until: 1.0, size: 24}]",
    ]
    config = load_recipe("toybox-edit", overrides=overrides, prompt="a blue cube")
    assert list(words_unknown_to_prior(config)) == ["zorkly"]
    (tmp_path / "run").mkdir()
    trained = train(
        config.stages,
        prompt=config.prompt,
        negative_prompt="",
        prior=load_prior(config.prior, "cpu"),
        seed=0,
        folder=RunFolder(tmp_path / "run"),
        device=torch.device("cpu"),
    )
    assert trained.is_finished
    state = trained.stage.state()
    table, shape = "representation.features.table", "representation.body.given"
    assert not torch.equal(state[table], state[f"reference.{table}"])
    assert torch.equal(state[shape], state[f"reference.{shape}"])
