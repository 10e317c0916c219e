"""Claims about runs that start from a model in a file."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from toy_run import Losses, stop_after, toy_stage, toy_train

from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Splats
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.splat_ply import write_splats
from dreamlab.systems.assets import SHARE, load_splats
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


def splat_stage(path: Path, room=40, **changes):
    control = {"name": "none"}
    size = {"count": 20, "max_count": room, "control": control}
    return toy_stage(
        start_from=str(path),
        representation={"name": "gaussians", **size, **changes},
        renderer={"name": "splat", "background": {"name": "solid"}},
        losses={},
    )


@pytest.fixture
def splats(tmp_path) -> Path:
    draw, path = torch.Generator().manual_seed(0), tmp_path / "splats.ply"
    ball = torch.nn.functional.normalize(torch.randn(30, 3, generator=draw), dim=-1)
    parts = (ball, torch.randn(30, 4, generator=draw), torch.full((30, 3), 0.3))
    given = Splats(*parts, torch.full((30,), 0.6), torch.rand(30, 3, generator=draw))
    write_splats(path, given, Placement(1.5, (1.0, 2.0, 3.0)))
    return path


def test_gaussians_of_a_file_are_trained_themselves(splats, tmp_path):
    begin = load_splats(splats, 1.0)
    assert begin.means.norm(dim=1).max().item() == pytest.approx(SHARE, rel=0.1)
    trained = toy_train(tmp_path / "run", {"splat": splat_stage(splats)})
    found = trained.stage.representation.splats()
    assert len(found.means) == 30
    moved = (found.means - begin.means).norm(dim=1)
    assert 0 < moved.max() < 0.2  # twelve steps away from where they were, and no resampling
    torch.testing.assert_close(found.scales, begin.scales, rtol=0.2, atol=0)


def test_more_gaussians_than_there_is_room_for_are_refused_with_the_setting(splats, tmp_path):
    with pytest.raises(InputError, match="set the representation's max_count to 30"):
        toy_train(tmp_path / "run", {"splat": splat_stage(splats, room=29)})


def test_a_mesh_cannot_start_from_gaussians_but_gaussians_from_a_mesh_in_the_same_format(
    splats, tmp_path
):
    with pytest.raises(InputError, match="cannot start from Gaussians"):
        toy_train(tmp_path / "run", {"paint": mesh_stage(splats)})
    trimesh.creation.box().export(tmp_path / "box.ply")
    trained = toy_train(tmp_path / "box", {"splat": splat_stage(tmp_path / "box.ply")})
    assert len(trained.stage.representation.splats().means) == 20
    trimesh.PointCloud(torch.rand(9, 3).numpy()).export(tmp_path / "points.ply")
    with pytest.raises(InputError, match="no triangles"):
        toy_train(tmp_path / "points", {"splat": splat_stage(tmp_path / "points.ply")})


def test_only_formats_that_can_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match="start_from"):
        toy_stage(start_from="model.fbx")


def picture_stage(path: Path, **changes):
    return toy_stage(
        **{
            "steps": 1,
            "start_from": str(path),
            "representation": {"name": "image", "size": 8},
            "renderer": {"name": "flat"},
            "milestones": [{"until": 1.0, "size": 8}],
            "losses": {},
            **changes,
        }
    )


def test_a_picture_starts_as_the_middle_square_of_the_picture_in_a_file(tmp_path):
    wide = np.zeros((16, 48, 3), dtype=np.uint8)
    wide[:, 16:32] = (51, 102, 204)
    wide[8:, 16:32] = (255, 0, 128)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    still = {"optimizer": {"lr": {"pixels": 0.0}}}
    trained = toy_train(tmp_path / "run", {"image": picture_stage(tmp_path / "wide.png", **still)})
    found = trained.stage.representation.picture()
    upper, lower = torch.tensor([51.0, 102.0, 204.0]) / 255, torch.tensor([0.99, 0.01, 128 / 255])
    torch.testing.assert_close(found[:3], upper.expand(3, 8, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[5:], lower.expand(3, 8, 3), atol=1e-5, rtol=0)


def test_objects_and_latents_do_not_start_from_pictures_nor_pictures_from_models(block, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="with which no object can begin"):
        toy_train(tmp_path / "mesh", {"paint": mesh_stage(tmp_path / "a.png")})
    latents = {"name": "latent_image", "channels": 3, "latent_size": 16, "size": 16}
    with pytest.raises(InputError, match="a latent_image cannot become one"):
        toy_train(
            tmp_path / "z", {"image": picture_stage(tmp_path / "a.png", representation=latents)}
        )
    with pytest.raises(InputError, match="cannot become a mesh"):
        toy_train(tmp_path / "model", {"image": picture_stage(block)})
