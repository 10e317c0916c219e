"""One export in all formats that many claims are checked on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from painted_ellipsoid import painted
from shiny_ball import ShinyBall, export_ball
from soft_shapes import EXTRAS, SoftShape, octant_color, reference_of, statue
from two_balls import APART, Made
from two_balls import export as export_balls

from dreamlab.export.pipeline import ExportConfig, ExportReport, export_model
from dreamlab.ops.volume.threshold import SilhouetteReference
from dreamlab.representations import colors
from dreamlab.systems.stage import Stage
from dreamlab.systems.surface import silhouettes

RINGS = ((4, 0.0, 20.0),)
OF_KINDS = ExportConfig(
    formats=("glb", "obj", "ply", "stl"),
    resolution=48,
    max_faces=1500,
    texture_size=256,
    unwrap="box",
    smoothing=0,
)


@dataclass
class OfKind:
    """A stage with the painted ellipsoid as one kind of representation, and its export."""

    stage: Stage
    folder: Path
    report: ExportReport

    @property
    def glb(self) -> Path:
        return self.folder / "model.glb"


@pytest.fixture(scope="session")
def of_kind(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], OfKind]:
    """Export the painted ellipsoid as the representation of a name, once."""

    @cache
    def export(name: str) -> OfKind:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(colors, "STEPS", 60)
            stage = painted(name)
            folder = tmp_path_factory.mktemp(name)
            reference = silhouettes(stage, RINGS, 128)
            report = export_model(
                stage.representation, reference, OF_KINDS, folder, name="x", extras=EXTRAS
            )
        return OfKind(stage, folder, report)

    return export


@dataclass
class Exported:
    folder: Path
    report: ExportReport
    config: ExportConfig
    shape: SoftShape
    reference: SilhouetteReference
    phases: list[tuple[str, float]]

    @property
    def glb(self) -> Path:
        return self.folder / "model.glb"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("export")
    shape = SoftShape(statue(), octant_color)
    reference = reference_of(shape)
    config = ExportConfig(
        formats=("glb", "obj", "ply", "stl"), resolution=64, max_faces=4000, texture_size=512
    )
    phases: list[tuple[str, float]] = []
    report = export_model(
        shape,
        reference,
        config,
        folder,
        name="A red statue!",
        extras=EXTRAS,
        on_phase=lambda name, fraction: phases.append((name, fraction)),
    )
    return Exported(folder, report, config, shape, reference, phases)


@pytest.fixture(scope="session")
def shiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    """The folder and the report of a ball with a material, bumps included."""
    folder = tmp_path_factory.mktemp("shiny")
    return folder, export_ball(folder, ShinyBall())


@pytest.fixture(scope="session")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two balls, each an object of its own."""
    folder = tmp_path_factory.mktemp("apart")
    return export_balls(APART, folder, formats=("glb", "obj", "ply", "stl"))
