"""Every representation leaves a file that meets the same contract and holds its object."""

from pathlib import Path

import pytest
import torch
from painted_ellipsoid import PARTS, RADII, painted
from soft_shapes import EXTRAS

from dreamlab.export.pipeline import ExportConfig, export_model
from dreamlab.ops.triangles.distance import sample_surface
from dreamlab.representations import colors
from dreamlab.systems.assets import SHARE, load_asset
from dreamlab.systems.surface import silhouettes

RINGS = ((4, 0.0, 20.0),)
CONFIG = ExportConfig(
    formats=("glb", "obj", "ply", "stl"),
    resolution=48,
    max_faces=1500,
    texture_size=256,
    unwrap="box",
    smoothing=0,
)


@pytest.mark.parametrize("name", PARTS)
def test_the_file_of_every_representation_meets_the_contract_and_looks_as_it_did(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colors, "STEPS", 60)
    stage = painted(name)
    shape = stage.representation
    report = export_model(
        shape, silhouettes(stage, RINGS, 128), CONFIG, tmp_path, name="x", extras=EXTRAS
    )
    assert report.valid and report.warnings == []
    # Gaussians cover a surface, so what is cut is a shell, which few triangles may let touch itself
    assert report.watertight or name == "gaussians"
    written = ["model.glb", "model.obj", "model.ply", "model.stl"]
    assert set(written) <= set(report.files)
    assert ("splats.ply" in report.files) == (name == "gaussians")
    assert report.silhouette_iou > 0.93 and report.components_kept == 1
    if name != "hashgrid":
        # in the file it is one metre tall and stands on the ground; in the world it was this large
        model = load_asset(tmp_path / "model.glb", max(RADII) / SHARE)
        points = torch.from_numpy(sample_surface(model.mesh, 400, seed=0)).float()
        assert ((points / torch.tensor(RADII)).norm(dim=1) - 1).abs().mean() < 0.06
        assert (model.color_at(points) - shape.color_at(points)).abs().mean() < 0.05
