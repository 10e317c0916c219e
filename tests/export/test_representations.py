"""Every representation leaves a file that meets the same contract and holds its object."""

import pytest
import torch
from painted_ellipsoid import PARTS, RADII

from dreamlab.ops.triangles.distance import sample_surface
from dreamlab.systems.assets import SHARE, load_asset


@pytest.mark.parametrize("name", PARTS)
def test_the_file_of_every_representation_meets_the_contract_and_looks_as_it_did(name, of_kind):
    made = of_kind(name)
    report = made.report
    assert report.valid and report.warnings == []
    # Gaussians cover a surface, so what is cut is a shell, which few triangles may let touch itself
    assert report.watertight or name == "gaussians"
    written = ["model.glb", "model.obj", "model.ply", "model.stl"]
    assert set(written) <= set(report.files)
    assert ("splats.ply" in report.files) == (name == "gaussians")
    assert report.silhouette_iou > 0.93 and report.components_kept == 1
    if name != "hashgrid":
        # in the file it is one metre tall and stands on the ground; in the world it was this large
        model = load_asset(made.glb, max(RADII) / SHARE)
        points = torch.from_numpy(sample_surface(model.mesh, 400, seed=0)).float()
        assert ((points / torch.tensor(RADII)).norm(dim=1) - 1).abs().mean() < 0.06
        colors = made.stage.representation.color_at(points)
        assert (model.color_at(points) - colors).abs().mean() < 0.05
