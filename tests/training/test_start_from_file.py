"""Claims about runs that start from a model in a file."""

from pathlib import Path

import pytest
import torch
import trimesh
from toy_run import Losses, stop_after, toy_stage, toy_train

from dreamlab.core.errors import InputError
from dreamlab.training.stop import StopFlag


def mesh_stage(path: Path, **changes):
    return toy_stage(
        **{
            "steps": 6,
            "start_from": str(path),
            "representation": {"name": "textured_mesh", "reach": 0.05},
            "renderer": {"name": "mesh", "background": {"name": "solid"}},
            "losses": {"laplacian": 1.0},
            **changes,
        }
    )


@pytest.fixture
def block(tmp_path) -> Path:
    path = tmp_path / "block.glb"
    trimesh.creation.box((1.0, 0.5, 0.7)).export(path)
    return path


def test_a_resumed_run_goes_on_as_if_nothing_had_happened_even_if_the_file_is_gone(block, tmp_path):
    stages = {"paint": mesh_stage(block)}
    whole = toy_train(tmp_path / "whole", stages)
    stop = StopFlag()
    toy_train(tmp_path / "cut", stages, on_event=stop_after(stop, ("paint", 3)), stop=stop)
    block.rename(tmp_path / "moved.glb")
    with pytest.raises(InputError, match="does not exist"):
        toy_train(tmp_path / "new", stages)
    again = Losses()
    resumed = toy_train(tmp_path / "cut", stages, on_event=again, resume=True)
    assert resumed.is_finished and list(again.of) == [("paint", 4), ("paint", 5), ("paint", 6)]
    for name, tensor in whole.stage.state().items():
        assert torch.equal(resumed.stage.state()[name], tensor), name


def test_the_mesh_of_the_file_is_what_is_trained(block, tmp_path):
    trained = toy_train(tmp_path / "run", {"paint": mesh_stage(block)})
    mesh = trained.stage.representation.triangles()
    assert len(mesh.tri) == 12
    extent = mesh.vertices.amax(0) - mesh.vertices.amin(0)
    assert extent[1] > extent[0] > 0 and extent[2] > 0


def test_a_field_cannot_start_from_a_model(block, tmp_path):
    with pytest.raises(InputError, match="cannot become a mesh"):
        toy_train(tmp_path / "run", {"nerf": toy_stage(start_from=str(block))})


def test_only_formats_that_can_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match="start_from"):
        toy_stage(start_from="model.fbx")
