"""The whole export: representation in, checked files and a report out.

density grid -> threshold -> surface (clean, smooth) -> simplify -> unwrap -> bake -> write -> check

Simplification comes before the unwrap, whose time grows faster than the number of triangles. A
representation with a texture of its own (`Atlased`) is written as it is, and checked.
Every step that could harm the shape is measured by the silhouette IoU against the renders. Objects
of a layout become parts of the files after all of that (`parts.py`), so they share the texture.
Those that have a representation each are shaped and painted one by one (`objects.py`).
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.core.mesh import Mesh, joined
from dreamlab.core.protocols import Atlased, Representation, Splats, Splatted
from dreamlab.core.run_folder import slug
from dreamlab.export.files.blender import convert
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.splat_ply import write_splats
from dreamlab.export.files.validate import Check, check_glb
from dreamlab.export.files.writers import write_glb, write_obj, write_ply, write_stl
from dreamlab.export.objects import Piece, face_limits, pieces_of
from dreamlab.export.paint import paint
from dreamlab.export.parts import ObjectReport, Part, describe, parts_of
from dreamlab.export.phases import OnPhase, Phases
from dreamlab.export.settings import BLENDER_FORMATS, ExportConfig
from dreamlab.export.surface import cut, iou, not_empty, simplified
from dreamlab.ops.mesh.bake import vertex_colors
from dreamlab.ops.mesh.clean import drop_components, is_watertight, vertex_normals
from dreamlab.ops.mesh.settings import Method
from dreamlab.ops.mesh.texels import rasterize
from dreamlab.ops.mesh.unwrap import unwrap
from dreamlab.ops.volume.threshold import SilhouetteReference

LOW_IOU = 0.95
"""The report warns of a mesh whose outline fits the renders worse than this."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportReport:
    """What was made of the object, for report.json."""

    threshold: float | None
    """Density of the surface; none for a mesh, for a surface from depth, and where each object of a
    layout has one of its own."""
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


def export_model(
    representation: Representation,
    reference: SilhouetteReference,
    config: ExportConfig,
    folder: Path,
    *,
    name: str,
    extras: Mapping[str, Any],
    layout: Layout | None = None,
    alone: Sequence[SilhouetteReference] = (),
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
        alone: views of each object alone, in its frame, if each has a representation.
        on_phase: called with the name of the phase and the fraction of it that is done.

    Raises:
        InputError: there is no surface to export, or `folder` cannot be written.
        MissingError: a format needs Blender, which is not installed.
    """
    phase = Phases(on_phase)
    pieces = pieces_of(representation, reference, alone)
    make = _as_it_is if isinstance(representation, Atlased) else _painted_anew
    made = make(pieces, config, phase)
    mesh, texture = made.mesh, made.painted.texture
    assert texture is not None
    if "ply" in config.formats:
        columns = [
            vertex_colors(own, piece.representation.color_at, piece.device)
            for piece, own in zip(pieces, made.local, strict=True)
        ]
        mesh = replace(mesh, colors=np.concatenate(columns))
    with phase("write"):
        splats = representation.splats() if isinstance(representation, Splatted) else None
        separate = layout if config.parts == "separate" else None
        parts = parts_of(made.painted, separate, slug(name), made.owner)
        written = [part for part in parts if len(part.faces)]
        files = _write(
            folder, mesh, made.painted, splats, config, written, name=name, extras=extras
        )
    with phase("check"):
        checks = _check(folder, config, [part.name for part in written], len(texture))
    fit = iou(mesh, reference)
    warnings = [made.warning] if made.warning else []
    warnings += [f"nothing belongs to {part.name!r}" for part in parts if len(part.faces) == 0]
    warnings += [f"check failed: {c.name} ({c.found})" for c in checks if not c.passed]
    if fit < LOW_IOU:
        warnings.append(f"the outline of the mesh fits the renders only to an IoU of {fit:.3f}")
    for warning in warnings:
        logger.warning("%s", warning)
    return ExportReport(
        threshold=made.threshold,
        silhouette_iou=round(fit, 4),
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
    local: Sequence[Mesh]
    """The pieces that follow one another in `mesh`, each in its own frame."""
    owner: Int[ndarray, " faces"] | None = None
    """Number of the object of each triangle, where it is known."""
    threshold: float | None = None
    dropped: int = 0
    holes: int = 0
    smoothed: bool = False
    unwrap_method: Method | None = None
    unwrap_seconds: float = 0.0
    warning: str | None = None


def _as_it_is(pieces: Sequence[Piece], config: ExportConfig, phase: Phases) -> _Made:
    """Take over the atlas and the texture of the representation."""
    atlased: Any = pieces[0].representation
    with phase("extract"), torch.no_grad():
        painted = atlased.painted_mesh()
        mesh = not_empty(atlased.triangles().to_mesh())
        mesh = replace(mesh, normals=vertex_normals(mesh))
        overlap = rasterize(painted.uv, painted.faces, len(painted.texture)).overlap
    return _Made(mesh, painted, overlap, kept=drop_components(mesh, 0.0)[1], local=[mesh])


def _painted_anew(pieces: Sequence[Piece], config: ExportConfig, phase: Phases) -> _Made:
    """Find the surface of each piece, repair and simplify it, unwrap all, and paint a texture."""
    surfaces = [cut(piece, config, phase) for piece in pieces]
    with phase("simplify"):
        limits = face_limits([surface.mesh for surface in surfaces], pieces, config.max_faces)
        simple = [
            simplified(surface.mesh, limit, config)
            for surface, limit in zip(surfaces, limits, strict=True)
        ]
        local = [mesh for mesh, _, _ in simple]
        mesh = joined(
            [
                own if piece.frame is None else piece.frame.place(own)
                for piece, own in zip(pieces, local, strict=True)
            ]
        )
    with phase("unwrap") as report_fraction:
        unwrapped = unwrap(
            mesh,
            method=config.unwrap,
            texture_size=config.texture_size,
            time_limit=config.unwrap_time_limit,
            on_progress=report_fraction,
        )
    with phase("bake") as report_fraction:
        index = np.repeat(np.arange(len(pieces)), [len(own.faces) for own in local])
        painted, texels = paint(
            pieces, joined(local), index, unwrapped, config.texture_size, report_fraction
        )
    is_composed = pieces[0].frame is not None
    return _Made(
        mesh,
        painted,
        texels.overlap,
        kept=sum(kept for _, kept, _ in simple),
        local=local,
        owner=np.array([piece.number for piece in pieces])[index] if is_composed else None,
        threshold=None if is_composed else surfaces[0].threshold,
        dropped=sum(s.dropped for s in surfaces) + sum(lost for _, _, lost in simple),
        holes=sum(surface.holes for surface in surfaces),
        smoothed=all(surface.smoothed for surface in surfaces),
        unwrap_method=unwrapped.method,
        unwrap_seconds=unwrapped.seconds,
        warning=unwrapped.warning,
    )


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
