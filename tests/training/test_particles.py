"""Several objects made at once: they take turns, and a run of them can be resumed."""

from pathlib import Path

import torch
from toy_run import stop_after, toy_stage, toy_train

from dreamlab.training.stop import StopFlag

TABLE = "representation.features.table"


def test_particles_take_turns_resume_exactly_and_go_on_in_the_next_stage(tmp_path: Path) -> None:
    stages = {
        "coarse": toy_stage(steps=4, particles=2),
        "fine": toy_stage(steps=4, particles=2, start_from="previous"),
    }
    whole = toy_train(tmp_path / "whole", stages)
    stop = StopFlag()
    toy_train(tmp_path / "part", stages, stop=stop, on_event=stop_after(stop, ("fine", 1)))
    resumed = toy_train(tmp_path / "part", stages, resume=True)
    for name, tensor in whole.stage.state().items():
        assert torch.equal(tensor, resumed.stage.state()[name]), name
    stage = whole.stage
    assert not torch.equal(stage.state()[TABLE], stage.state()[f"particle1.{TABLE}"])
    assert {stage.particle_at(step) for step in range(20)} == {0, 1}
    views = stage.view_around(2)
    shown = stage.render(views, 8, 8).rgb
    pictures = []
    for particle in (0, 1):
        stage.focus(particle)
        pictures.append(stage.render(views, 8, 8).rgb)
    assert torch.equal(shown, pictures[0]), "the first one is shown"
    assert not torch.equal(pictures[0], pictures[1])
