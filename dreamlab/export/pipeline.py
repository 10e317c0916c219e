"""The whole export: representation in, checked files and a report out.

density grid -> threshold -> surface (clean, smooth) -> simplify -> unwrap -> bake -> write -> check

Simplification comes before the unwrap, whose time grows faster than the number of triangles. A
representation with a texture of its own (`Atlased`) is written as it is, and checked.
Every step that could harm the shape is measured by the silhouette IoU against the renders. Objects
of a layout become parts of the files after all of that (`parts.py`), so they share the texture.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import (
    Atlased,
    HasMaterial,
    Representation,
    Shape,
    Splats,
    Splatted,
    Volume,
)
from dreamlab.core.run_folder import slug
from dreamlab.export.files.blender import convert
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.splat_ply import write_splats
from dreamlab.export.files.validate import Check, check_glb
from dreamlab.export.files.writers import write_glb, write_obj, write_ply, write_stl
from dreamlab.export.parts import ObjectReport, Part, describe, parts_of
from dreamlab.export.settings import BLENDER_FORMATS, ExportConfig
from dreamlab.ops.mesh.bake import bake, bake_material, vertex_colors
from dreamlab.ops.mesh.clean import (
    drop_components,
    fill_holes,
    is_watertight,
    remove_degenerate,
    smooth,
    vertex_normals,
)
from dreamlab.ops.mesh.settings import Method
from dreamlab.ops.mesh.simplify import simplify
from dreamlab.ops.mesh.texels import rasterize
from dreamlab.ops.mesh.unwrap import unwrap
from dreamlab.ops.triangles.raycast import silhouette
from dreamlab.ops.volume.surface import extract_surface
from dreamlab.ops.volume.threshold import (
    SilhouetteReference,
    find_threshold,
    mean_iou,
)
from dreamlab.ops.volume.tsdf import fused_surface

SMOOTHING_COST = 0.002
"""Silhouette IoU that smoothing may cost; it is undone if it costs more."""
LOW_IOU = 0.95
"""The report warns of a mesh whose outline fits the renders worse than this."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportReport:
    """What was made of the object, for report.json."""

    threshold: float | None
    """Density of the surface; none for a mesh, and for a surface from depth."""
    silhouette_iou: float
    """Of the exported mesh and the rendered opacity above 1/2, mean over the reference views."""
    faces: int
    vertices: int
    """Of the mesh before it is cut along seams."""
    components_kept: int
    components_dropped: int
    holes_filled: int
    watertight: bool
    smoothed: bool
    unwrap_method: Method | None
    """None for a representation that had been unwrapped before."""
    unwrap_seconds: float
    uv_overlap: float
    """Share of the covered texels that two triangles claim."""
    files: list[str]
    """Names of the files written."""
    seconds: dict[str, float]
    """Per phase."""
    checks: list[Check]
    """The Blender contract, checked on the written GLB."""
    warnings: list[str] = field(default_factory=list)
    objects: dict[str, ObjectReport] = field(default_factory=dict)
    """The separate objects of a layout, by the names of their nodes."""

    @property
    def valid(self) -> bool:
        """Whether every check of the written GLB passed."""
        return all(check.passed for check in self.checks)

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "valid": self.valid}


OnPhase = Callable[[str, float], None]


class _Phases:
    """Times the phases and tells the caller about them."""

    def __init__(self, on_phase: OnPhase) -> None:
        self.seconds: dict[str, float] = {}
        self._on_phase = on_phase

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[[float], None]]:
        begin = time.perf_counter()
        self._on_phase(name, 0.0)
        yield lambda fraction: self._on_phase(name, fraction)
        self._on_phase(name, 1.0)
        self.seconds[name] = round(time.perf_counter() - begin, 3)


def export_model(
    representation: Representation,
    reference: SilhouetteReference,
    config: ExportConfig,
    folder: Path,
    *,
    name: str,
    extras: Mapping[str, Any],
    layout: Layout | None = None,
    on_phase: OnPhase = lambda name, fraction: None,
) -> ExportReport:
    """Turn a representation into `folder`/model.glb and the other formats asked for.

    Gaussians are written as they are too, to `folder`/splats.ply.

    Args:
        representation: a density or a mesh, with colours.
        reference: rendered views that the outline of the mesh has to fit.
        config: settings.
        folder: must exist.
        name: of the model, such as its prompt; becomes a slug.
        extras: provenance for the GLB: prompt, seed, config_hash, licence, …; plain values.
        layout: that the object was made with; several boxes become several parts of the files.
        on_phase: called with the name of the phase and the fraction of it that is done.

    Raises:
        InputError: there is no surface to export, or `folder` cannot be written.
        MissingError: a format needs Blender, which is not installed.
    """
    phase = _Phases(on_phase)
    make = _as_it_is if isinstance(representation, Atlased) else _painted_anew
    made = make(representation, reference, config, phase)
    mesh, texture = made.mesh, made.painted.texture
    assert texture is not None
    if "ply" in config.formats:
        colors = vertex_colors(mesh, representation.color_at, _device(representation))
        mesh = replace(mesh, colors=colors)
    with phase("write"):
        splats = representation.splats() if isinstance(representation, Splatted) else None
        separate = layout if config.parts == "separate" else None
        parts = parts_of(made.painted, separate, slug(name))
        written = [part for part in parts if len(part.faces)]
        files = _write(
            folder, mesh, made.painted, splats, config, written, name=name, extras=extras
        )
    with phase("check"):
        checks = _check(folder, config, [part.name for part in written], len(texture))
    iou = _iou(mesh, reference)
    warnings = [made.warning] if made.warning else []
    warnings += [f"nothing belongs to {part.name!r}" for part in parts if len(part.faces) == 0]
    warnings += [f"check failed: {c.name} ({c.found})" for c in checks if not c.passed]
    if iou < LOW_IOU:
        warnings.append(f"the outline of the mesh fits the renders only to an IoU of {iou:.3f}")
    for warning in warnings:
        logger.warning("%s", warning)
    return ExportReport(
        threshold=made.threshold,
        silhouette_iou=round(iou, 4),
        faces=len(mesh.faces),
        vertices=len(mesh.vertices),
        components_kept=made.kept,
        components_dropped=made.dropped,
        holes_filled=made.holes,
        watertight=is_watertight(mesh),
        smoothed=made.smoothed,
        unwrap_method=made.unwrap_method,
        unwrap_seconds=round(made.unwrap_seconds, 3),
        uv_overlap=made.overlap,
        files=[path.name for path in files],
        seconds=phase.seconds,
        checks=checks,
        warnings=warnings,
        objects=describe(made.painted, written) if len(parts) > 1 else {},
    )


@dataclass(frozen=True)
class _Made:
    """What is to be written, and how it was made."""

    mesh: Mesh
    """Without cuts, with normals."""
    painted: Mesh
    """Cut along seams, with UV and texture."""
    overlap: float
    kept: int
    threshold: float | None = None
    dropped: int = 0
    holes: int = 0
    smoothed: bool = False
    unwrap_method: Method | None = None
    unwrap_seconds: float = 0.0
    warning: str | None = None


def _as_it_is(
    representation: Any, reference: SilhouetteReference, config: ExportConfig, phase: _Phases
) -> _Made:
    """Take over the atlas and the texture of the representation."""
    with phase("extract"), torch.no_grad():
        painted = representation.painted_mesh()
        mesh = _not_empty(representation.triangles().to_mesh())
        mesh = replace(mesh, normals=vertex_normals(mesh))
        overlap = rasterize(painted.uv, painted.faces, len(painted.texture)).overlap
    return _Made(mesh, painted, overlap, kept=drop_components(mesh, 0.0)[1])


def _painted_anew(
    representation: Representation,
    reference: SilhouetteReference,
    config: ExportConfig,
    phase: _Phases,
) -> _Made:
    """Find the surface, repair, simplify and unwrap it, and paint a texture."""
    surface, threshold = _surface(representation, reference, config, phase)
    with phase("clean"):
        repaired = _clean(surface, config)
        mesh, smoothed = _smooth_if_harmless(repaired.mesh, reference, config.smoothing)
    with phase("simplify"):
        mesh = simplify(mesh, config.max_faces)
        mesh, kept, fragments = drop_components(mesh, config.min_component_share)
        mesh = replace(mesh, normals=vertex_normals(mesh))
    with phase("unwrap") as report_fraction:
        unwrapped = unwrap(
            mesh,
            method=config.unwrap,
            texture_size=config.texture_size,
            time_limit=config.unwrap_time_limit,
            on_progress=report_fraction,
        )
    with phase("bake") as report_fraction:
        texture, texels = bake(
            unwrapped.mesh,
            representation.color_at,
            config.texture_size,
            device=_device(representation),
            on_progress=report_fraction,
        )
        painted = replace(unwrapped.mesh, texture=texture)
        if isinstance(representation, HasMaterial) and representation.has_material:
            painted = bake_material(
                painted,
                texels,
                representation.material,
                config.texture_size,
                device=_device(representation),
            )
    return _Made(
        mesh,
        painted,
        texels.overlap,
        kept,
        threshold=threshold,
        dropped=repaired.dropped + fragments,
        holes=repaired.holes,
        smoothed=smoothed,
        unwrap_method=unwrapped.method,
        unwrap_seconds=unwrapped.seconds,
        warning=unwrapped.warning,
    )


def _device(representation: Representation) -> torch.device:
    """Where the representation's parameters are; the CPU if it has none."""
    for group in representation.parameter_groups().values():
        for parameter in group:
            return parameter.device
    return torch.device("cpu")


def _surface(
    representation: Representation,
    reference: SilhouetteReference,
    config: ExportConfig,
    phase: _Phases,
) -> tuple[Mesh, float | None]:
    """Return the surface, and its density if it is one of the density, which may be found first."""
    if isinstance(representation, Shape):
        with phase("extract"), torch.no_grad():
            return _not_empty(representation.triangles().to_mesh()), None
    half_extent = representation.half_extent
    if config.surface == "tsdf":
        with phase("extract"):
            return fused_surface(reference, half_extent, config.resolution), None
    if not isinstance(representation, Volume):
        raise TypeError(f"a {type(representation).__name__} is neither a mesh nor a volume")
    with phase("density"):
        density = representation.density_grid(config.resolution)
    threshold = config.threshold
    if threshold is None:
        with phase("threshold"):
            threshold = find_threshold(density, half_extent, reference).value
    with phase("extract"):
        return extract_surface(density, threshold, half_extent), threshold


def _not_empty(mesh: Mesh) -> Mesh:
    if len(mesh.faces) == 0:
        raise InputError(
            "there is nothing to export: the mesh has no triangles.",
            "optimise for more steps, or start again with another seed.",
        )
    return mesh


@dataclass(frozen=True)
class _Repaired:
    mesh: Mesh
    dropped: int
    holes: int


def _clean(surface: Mesh, config: ExportConfig) -> _Repaired:
    mesh = remove_degenerate(surface)
    mesh, _, dropped = drop_components(mesh, config.min_component_share)
    mesh, holes = fill_holes(mesh, config.max_hole_edges)
    return _Repaired(mesh, dropped, holes)


def _iou(mesh: Mesh, reference: SilhouetteReference) -> float:
    height, width = reference.alpha.shape[1:3]
    cameras = reference.cameras.to(reference.alpha.device)
    return mean_iou(silhouette(mesh, cameras, height, width), reference.mask)


def _smooth_if_harmless(
    mesh: Mesh, reference: SilhouetteReference, iterations: int
) -> tuple[Mesh, bool]:
    """Smooth the mesh unless its outline then fits the renders worse."""
    if iterations == 0:
        return mesh, False
    smoothed = remove_degenerate(smooth(mesh, iterations))
    if _iou(smoothed, reference) < _iou(mesh, reference) - SMOOTHING_COST:
        return mesh, False
    return smoothed, True


def _write(
    folder: Path,
    mesh: Mesh,
    painted: Mesh,
    splats: Splats | None,
    config: ExportConfig,
    parts: Sequence[Part],
    *,
    name: str,
    extras: Mapping[str, Any],
) -> list[Path]:
    """Write all formats; the placement is that of the mesh, so all files agree."""
    placement, name = Placement.on_ground(mesh, config.height), slug(name)
    files: list[Path] = []
    try:
        for kind in dict.fromkeys(config.formats):
            path = folder / f"model.{kind}"
            if kind == "glb":
                write_glb(path, painted, placement, name=name, extras=extras, parts=parts)
            elif kind == "obj":
                files += write_obj(path, painted, placement, name=name, parts=parts)
                continue
            elif kind == "ply":
                write_ply(path, mesh, placement)
            elif kind == "stl":
                write_stl(path, mesh, placement)
            else:
                continue
            files.append(path)
        by_blender = [
            folder / f"model.{kind}" for kind in BLENDER_FORMATS if kind in config.formats
        ]
        if by_blender:
            with tempfile.TemporaryDirectory(prefix="dreamlab-export-") as temporary:
                glb = Path(temporary) / "model.glb"
                write_glb(glb, painted, placement, name=name, extras=extras, parts=parts)
                convert(glb, by_blender)
            files += by_blender
        if splats is not None:
            files.append(folder / "splats.ply")
            write_splats(files[-1], splats, placement)
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror or error}.",
            "choose a folder you may write to with enough free space.",
        ) from None
    return files


def _check(
    folder: Path, config: ExportConfig, names: Sequence[str], texture_size: int
) -> list[Check]:
    if "glb" not in config.formats:
        return []
    return check_glb(
        folder / "model.glb", names=names, height=config.height, texture_size=texture_size
    )
