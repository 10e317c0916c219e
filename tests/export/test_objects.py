"""Claims about the export of objects that each have a representation of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from soft_shapes import EXTRAS

from dreamlab.core.config import build
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Box, Layout
from dreamlab.core.mesh import Mesh
from dreamlab.core.regions import Regions
from dreamlab.export.files.reload import load_glb
from dreamlab.export.files.writers import read_gltf_json
from dreamlab.export.objects import face_limits, pieces_of
from dreamlab.export.parts import parts_of
from dreamlab.export.pipeline import ExportConfig, ExportReport, export_model
from dreamlab.systems.settings import StageConfig
from dreamlab.systems.stage import Stage
from dreamlab.systems.surface import silhouettes

NAMES = ["a-red-ball", "a-blue-ball"]
COLORS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])
OVERLAPPING = Layout(
    (
        Box("a red ball", (0.0, -0.15, 0.0), (0.8, 0.8, 0.8)),
        Box("a blue ball", (0.0, 0.25, 0.0), (0.6, 0.6, 0.6), yaw=40.0),
    )
)
GRID = {"num_levels": 2, "log2_table_size": 8, "finest_resolution": 16}
OBJECTS: dict[str, dict[str, Any]] = {
    "dmtet": {
        "representation": {
            "name": "dmtet",
            "resolution": 8,
            "grid": GRID,
            "radii": [0.7, 0.7, 0.7],
        },
        "renderer": {"name": "mesh"},
    },
    "hashgrid": {
        "representation": {"name": "hashgrid", "grid": GRID, "blob_scale": 60.0},
        "renderer": {"name": "volume", "steps_per_diagonal": 64},
    },
    "gaussians": {
        "representation": {"name": "gaussians", "count": 400, "radius": 0.7, "opacity": 0.9},
        "renderer": {"name": "splat"},
    },
}
SMALL = {"resolution": 32, "texture_size": 64, "unwrap": "box", "smoothing": 2, "max_faces": 400}


def stage_of(name: str, **more: Any) -> Stage:
    settings = OBJECTS[name]
    representation = settings["representation"] | {"per_object": True} | more
    config = build(
        StageConfig,
        {"steps": 1, "guidance": {"name": "sds"}, **settings, "representation": representation},
    )
    stage = Stage("only", config, None, seed=0, device=torch.device("cpu"), layout=OVERLAPPING)
    for child, color in zip(objects_in(stage), COLORS, strict=True):
        child.color_at = lambda points, color=color: color.expand(len(points), 3)
    return stage


def objects_in(stage: Stage) -> Any:
    scene: Any = stage.representation
    return scene.objects


def export(stage: Stage, folder: Path, **settings: Any) -> ExportReport:
    def views(number: int | None = None) -> Any:
        return silhouettes(stage, ((4, 0.0, 15.0),), 32, number)

    return export_model(
        stage.representation,
        views(),
        build(ExportConfig, SMALL | settings),
        folder,
        name="Two balls",
        extras=EXTRAS,
        layout=OVERLAPPING,
        alone=[views(number) for number in range(2)],
    )


@pytest.mark.parametrize(
    "name",
    [
        "dmtet",
        pytest.param("hashgrid", marks=pytest.mark.slow),
        pytest.param("gaussians", marks=pytest.mark.slow),
    ],
)
def test_each_object_is_a_named_node_whole_and_in_its_colours(name: str, tmp_path: Path):
    """The balls cross each other; both are there entire, which no cut between boxes gives."""
    stage = stage_of(name)
    report = export(stage, tmp_path, formats=("glb", "ply"))
    assert report.valid and list(report.objects) == NAMES
    assert [node["name"] for node in read_gltf_json(tmp_path / "model.glb")["nodes"]] == NAMES
    scene = trimesh.load_scene(tmp_path / "model.glb", process=False)
    regions = Regions.of(OVERLAPPING)
    whole = load_glb(tmp_path / "model.glb", undo_placement=True)
    start = 0
    for k, title in enumerate(NAMES):
        assert report.objects[title].watertight or name == "gaussians"
        model: Any = scene.geometry[title]
        count = len(model.faces)
        corners = whole.vertices[whole.faces[start : start + count]].reshape(-1, 3)
        start += count
        outside = regions.distances(torch.from_numpy(corners.astype(np.float32)))[:, k]
        assert outside.max() < 0.05, "it is where its box is"
        assert outside.min() < -0.02
        other = regions.distances(torch.from_numpy(corners.astype(np.float32)))[:, 1 - k]
        assert other.min() < -0.05, "and in the other's box too"
        texels = np.asarray(model.visual.material.baseColorTexture.convert("RGB"))
        row = ((1 - model.visual.uv[:, 1]) * len(texels)).astype(int).clip(0, len(texels) - 1)
        column = (model.visual.uv[:, 0] * len(texels)).astype(int).clip(0, len(texels) - 1)
        found = texels[row, column] / 255
        assert np.abs(found - COLORS[k].numpy()).max() < 0.01
    colors = trimesh.load_mesh(tmp_path / "model.ply", process=False).visual.vertex_colors[:, :3]
    assert {tuple(c) for c in np.unique(colors, axis=0)} == {(230, 26, 26), (26, 26, 230)}
    assert ("splats.ply" in report.files) == (name == "gaussians")


@pytest.mark.slow
def test_materials_and_relief_are_painted_in_the_frames_of_their_objects(tmp_path: Path):
    stage = stage_of("dmtet", material={"bump": 0.4})
    for child, level in zip(objects_in(stage), (-3.0, 3.0), strict=True):
        with torch.no_grad():
            child.color_layers[0].fill_(1.0)
            child.features.table.fill_(0.1)
            child.material_layer.zero_()
            child.material_layer[:, 0] = level
    export(stage, tmp_path)
    mesh = load_glb(tmp_path / "model.glb")
    assert mesh.metallic_roughness is not None and mesh.normal_map is not None
    metallic = np.unique(mesh.metallic_roughness[..., 2])
    assert len(metallic) == 2 and metallic[0] < 20 < 200 < metallic[1]


@pytest.mark.slow
def test_an_object_that_cannot_be_seen_is_warned_of_and_none_is_an_error(tmp_path: Path):
    stage = stage_of("dmtet")
    with torch.no_grad():
        objects_in(stage)[0].distance.fill_(1.0)
    report = export(stage, tmp_path)
    assert list(report.objects) == NAMES[1:] and report.valid
    assert report.warnings == ["nothing belongs to 'a-red-ball'"]
    with torch.no_grad():
        objects_in(stage)[1].distance.fill_(1.0)
    with pytest.raises(InputError, match="no object of the layout is opaque"):
        export(stage, tmp_path)


def test_joined_they_are_one_part_and_triangles_are_shared_by_area():
    owner = np.array([0, 1, 1])
    two = Mesh(np.eye(3, dtype=np.float32), np.tile(np.arange(3), (3, 1)))
    assert [list(part.faces) for part in parts_of(two, OVERLAPPING, "x", owner)] == [[0], [1, 2]]
    assert [list(part.faces) for part in parts_of(two, None, "x", owner)] == [[0, 1, 2]]
    stage = stage_of("dmtet")
    reference = silhouettes(stage, ((2, 0.0, 0.0),), 16)
    pieces = pieces_of(stage.representation, reference, [reference, reference])
    meshes = [piece.representation.triangles().to_mesh() for piece in pieces]
    first, second = face_limits(meshes, pieces, 1000)
    assert first / second == pytest.approx((0.8 / 0.6) ** 2, rel=0.01)
