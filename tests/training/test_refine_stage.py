"""Claims about a last stage that refines a texture: it goes on from the mesh, and is exact."""

import numpy as np
import pytest
import torch
from toy_run import BLUE, RED, Losses, stop_after, toy_stage, toy_train

from dreamlab.representations.uv_mesh import UVMesh
from dreamlab.systems.settings import StageConfig
from dreamlab.training.loop import Trained
from dreamlab.training.stop import StopFlag

MESH = {"name": "mesh", "background": {"name": "solid"}}
GRID = {"num_levels": 4, "log2_table_size": 10, "finest_resolution": 24}


def stages(**changes) -> dict[str, StageConfig]:
    coarse = toy_stage(
        steps=2,
        representation={"name": "dmtet", "resolution": 12, "grid": GRID},
        renderer=MESH,
        losses={},
    )
    refine = toy_stage(
        **{
            "steps": 4,
            "start_from": "previous",
            "representation": {"name": "uv_mesh", "texture_size": 64, "unwrap": "box"},
            "renderer": MESH,
            "milestones": [{"until": 1.0, "size": 32}],
            "guidance": {"name": "sdedit", "guidance_scale": 1.0, "t_start": 0.6, "num_steps": 5},
            "losses": {"texture_variation": 0.1, "seams": 10.0},
            **changes,
        }
    )
    return {"coarse": coarse, "refine": refine}


def shape_of(trained: Trained) -> UVMesh:
    shape = trained.stage.representation
    assert isinstance(shape, UVMesh)
    return shape


@pytest.mark.parametrize("reach", [pytest.param(0.0, marks=pytest.mark.slow), 0.05])
def test_a_resumed_run_goes_on_as_if_nothing_had_happened(tmp_path, reach: float):
    representation = {"name": "uv_mesh", "texture_size": 64, "unwrap": "box", "reach": reach}
    plan = stages(representation=representation)
    whole = toy_train(tmp_path / "whole", plan)
    stop = StopFlag()
    toy_train(tmp_path / "cut", plan, on_event=stop_after(stop, ("refine", 2)), stop=stop)
    cut = toy_train(tmp_path / "cut", plan, resume=True)
    first, second = whole.stage.state(), cut.stage.state()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    mine, theirs = shape_of(whole).painted_mesh(), shape_of(cut).painted_mesh()
    for name in ("vertices", "faces", "uv", "texture", "normals"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


def test_refinement_brings_the_colours_that_the_prior_expects(tmp_path):
    losses = Losses()
    plan = stages(steps=20, optimizer={"lr": {"texture": 0.3}})
    shape = shape_of(toy_train(tmp_path, plan, on_event=losses))
    ends = torch.tensor([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]])
    torch.testing.assert_close(shape.color_at(ends), torch.tensor([RED, BLUE]), atol=0.2, rtol=0)
    assert losses.of["refine", 20] < 0.5 * losses.of["refine", 1]
